"""The calls to Ray, with a stand-in that runs tasks where they are called (bench/scale.py uses the real one)."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ray_stand_in import Cluster

from modalign.core import ray_cluster
from modalign.core.errors import InputError, ModalignError
from modalign.data.digits import load_digits
from modalign.shards import embed_shards, ray_tasks
from modalign.shards.ray_tasks import on_ray

DIGITS = load_digits().select(range(12))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    found = Cluster([2, 4])
    monkeypatch.setattr(ray_cluster, "require", lambda module, extra: found)
    monkeypatch.setattr(ray_tasks, "share_cpus", lambda count: None)
    monkeypatch.setattr(ray_tasks.torch, "set_num_threads", lambda count: None)
    ray_tasks._worker.cache_clear()
    return found


def test_tasks_of_ray_make_the_parts_of_one_process(cluster: Cluster, tmp_path: Path) -> None:
    embed_shards(DIGITS, tmp_path / "here", shards=5)
    run = embed_shards(DIGITS, tmp_path / "ray", shards=5, scheduler=on_ray("auto", 2, 2))
    assert (run.computed, run.finished) == (5, True)
    assert cluster.most == 2
    assert cluster.shut == 1
    assert cluster.asked[0]["num_cpus"] == 2
    assert cluster.asked[0]["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "2"
    for path in (tmp_path / "here").glob("part-*"):
        assert path.read_bytes() == (tmp_path / "ray" / path.name).read_bytes()


@pytest.mark.parametrize(("count", "threads"), [(7, 1), (2, 5), (1, 6), (0, 1)])
def test_a_configuration_that_would_starve_is_refused(
    cluster: Cluster, tmp_path: Path, count: int, threads: int
) -> None:
    with pytest.raises(InputError, match=r"at most 6 processors.*the largest machine has 4.*would wait forever"):
        embed_shards(DIGITS, tmp_path / "ray", shards=5, scheduler=on_ray("auto", count, threads))
    assert cluster.shut == 1
    assert not list((tmp_path / "ray").glob("part-*"))


def test_a_cluster_or_a_task_that_is_lost_is_one_sentence(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Expected a Ray cluster at 'nowhere:1', it cannot be reached"):
        embed_shards(DIGITS, tmp_path / "ray", shards=5, scheduler=on_ray("nowhere:1", 1))
    cluster.lost = True
    with pytest.raises(ModalignError, match=r"A task of Ray was lost.*run the same command again"):
        embed_shards(DIGITS, tmp_path / "ray", shards=5, scheduler=on_ray("auto", 1))


def test_an_address_where_nothing_listens_is_refused_before_ray_starts(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "init", lambda **options: pytest.fail("Ray was started"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but not listening
        nowhere = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", nowhere)
        for address in (nowhere, f"ray://{nowhere}", "auto"):
            with pytest.raises(InputError, match=rf"cluster at '.*{nowhere}', it cannot be reached.*ray start --head"):
                embed_shards(DIGITS, tmp_path / "ray", shards=5, scheduler=on_ray(address, 1))
    for address in ("head", "head:", ":6379", "head:port", "head:70000", ""):
        with pytest.raises(InputError, match=rf"as host:port or ray://host:port, or auto.*got '{address}'"):
            embed_shards(DIGITS, tmp_path / "ray", shards=5, scheduler=on_ray(address, 1))


def test_an_address_that_listens_is_given_to_ray(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(cluster, "init", lambda **options: asked.append(options["address"]))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"ray://127.0.0.1:{server.getsockname()[1]}"
        assert embed_shards(DIGITS, tmp_path / "ray", shards=2, scheduler=on_ray(address, 1)).finished
    assert asked == [address]

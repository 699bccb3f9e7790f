"""Damage to bytes and to JSON, as by disks, downloads and attackers."""

from __future__ import annotations

import json
import random
from typing import Any

_ODD = (None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x",
        "0", "../../x", "/etc/passwd", "\x1b[31m", "\ud800", "é" * 300, [], {}, [[]], [None],
        {"a": {}}, [1, 2, 3])  # fmt: skip


def damaged(data: bytes, dice: random.Random) -> bytes:
    """The bytes with one to three damages: flipped bits, other bytes, parts missing, doubled, zeroed or moved."""
    content = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        size = len(content)
        if not size:
            break
        at, length = dice.randrange(size), int(dice.paretovariate(0.6))
        match dice.choice(("flip", "flip", "set", "cut", "head", "delete", "double", "zero", "insert", "number")):
            case "flip":
                for _ in range(dice.randint(1, 8)):
                    content[dice.randrange(size)] ^= 1 << dice.randrange(8)
            case "set":
                content[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
            case "cut":
                del content[at:]
            case "head":
                del content[: min(length, size)]
            case "delete":
                del content[at : at + length]
            case "double":
                content[at:at] = content[at : at + min(length, 10_000)]
            case "zero":
                content[at : at + length] = bytes(len(content[at : at + length]))
            case "insert":
                content[at:at] = dice.randbytes(min(length, 1000))
            case "number":  # lengths and counts
                width = dice.choice((1, 2, 4, 8))
                value = dice.choice((0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1))
                content[at : at + width] = value.to_bytes(width, dice.choice(("little", "big")))
    return bytes(content)


def damaged_json(text: str, dice: random.Random) -> bytes:
    """JSON with values replaced, removed, doubled or nested, or with damaged bytes."""
    if dice.random() < 0.3:
        return damaged(text.encode(), dice)
    content = json.loads(text)
    for _ in range(dice.randint(1, 2)):
        content = _changed(content, dice)
    result = json.dumps(content, ensure_ascii=dice.random() < 0.5)
    if dice.random() < 0.05:
        result = "[" * dice.choice((50, 500, 50_000)) + result
    return result.encode("utf-8", "surrogatepass")


def _changed(value: Any, dice: random.Random) -> Any:
    """The value with one of its parts, or itself, replaced."""
    if isinstance(value, (dict, list)) and value and dice.random() < 0.85:
        key = dice.choice(list(value) if isinstance(value, dict) else range(len(value)))
        changed = value.copy()
        kind = dice.random()
        if kind < 0.15:
            del changed[key]
        elif kind < 0.25 and isinstance(changed, list):
            changed.insert(key, changed[key])
        elif kind < 0.35 and isinstance(changed, dict):
            changed[dice.choice(("", "x", f"{key} ", str(key).upper()))] = changed.pop(key)
        elif kind < 0.45 and isinstance(changed, list):
            dice.shuffle(changed)
        else:
            changed[key] = _changed(value[key], dice)
        return changed
    if isinstance(value, (int, float)) and not isinstance(value, bool) and dice.random() < 0.4:
        return dice.choice((value + 1, -value, value * 1e6, value / 3))
    return dice.choice(_ODD)

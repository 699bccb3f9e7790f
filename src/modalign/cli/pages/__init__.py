"""Commands whose result is a page: explanations and figures."""

"""Configurations are built strictly: what a file says is taken as it is, or refused by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from wavenet.storage import settings as config


@dataclass(frozen=True)
class Inner:
    size: int
    scale: float = 1.0


@dataclass(frozen=True)
class Outer:
    name: str = "a"
    inner: Inner | None = None
    ratio: float | None = None
    flags: tuple[bool, ...] = ()
    inners: tuple[Inner, ...] = ()
    on: bool = False

    def __post_init__(self) -> None:
        if self.name == "":
            raise ValueError("name is empty; give one")


def build(**values: Any) -> Outer:
    return config.from_dict(Outer, values, where="thing")


def test_plain_values_become_the_dataclass_and_back() -> None:
    whole = Outer("b", Inner(3), 2.0, (True, False), (Inner(1), Inner(2)), True)
    plain = json.loads(json.dumps(config.to_dict(whole)))
    assert plain["inner"] == {"size": 3, "scale": 1.0}
    assert config.from_dict(Outer, plain, where="thing") == whole
    assert build() == Outer()
    assert config.from_dict(Outer, config.to_dict(Outer()), where="thing") == Outer()


def test_a_dataclass_that_is_there_already_is_taken() -> None:
    assert build(inner=Inner(3)).inner == Inner(3)


def test_an_integer_is_a_number_and_stays_of_the_type_that_is_asked_for() -> None:
    assert isinstance(build(ratio=2).ratio, float)
    assert isinstance(build(inner={"size": 1, "scale": 3}).inner.scale, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nmae": "b"}, "thing.nmae is unknown; did you mean name?"),
        ({"xyz": 1}, "thing.xyz is unknown; known: name, inner, ratio, flags, inners, on"),
        ({3: 1}, "thing.3 is unknown; known: name"),
        ({"inner": {"sise": 1}}, "thing.inner.sise is unknown; did you mean size?"),
        ({"inner": {}}, "thing.inner: .*missing.*'size'"),
        ({"inner": 3}, "thing.inner is 3, expected a mapping of settings"),
        ({"inner": [1]}, r"thing.inner is \[1\], expected a mapping of settings"),
        ({"name": 3}, "thing.name is 3, expected str"),
        ({"name": None}, "thing.name is None, expected str"),
        ({"name": ""}, "name is empty; give one"),
        ({"on": 1}, "thing.on is 1, expected bool"),
        ({"on": "yes"}, "thing.on is 'yes', expected bool"),
        ({"ratio": "0.5"}, "thing.ratio is '0.5', expected float"),
        ({"ratio": True}, "thing.ratio is True, expected float"),
        ({"inner": {"size": 2.0}}, "thing.inner.size is 2.0, expected int"),
        ({"inner": {"size": True}}, "thing.inner.size is True, expected int"),
        ({"flags": True}, "thing.flags is True, expected a list"),
        ({"flags": [1]}, "thing.flags is 1, expected bool"),
        ({"inners": [{"size": "1"}]}, "thing.inners.size is '1', expected int"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(values: dict[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        config.from_dict(Outer, values, where="thing")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [None, 3, "name", [("name", "b")]])
def test_what_is_no_mapping_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="thing is .*, expected a mapping of settings"):
        config.from_dict(Outer, values, where="thing")

"""The contract every fault keeps.

from midstream.testing.faults import FaultContract

class TestMyFault(FaultContract):
    fault = "my-fault"  # a member of the faults family
    bad_values = ("-1", "soon")  # values it must refuse
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, ClassVar, get_args

import pytest

from midstream._positions import Position
from midstream._registry import load, names
from midstream._schedule import BadSpec, Rule
from midstream._verbs import Verb
from midstream.faults import Fault


class FaultContract:
    """Subclass it and name the fault."""

    fault: ClassVar[str]
    bad_values: ClassVar[Sequence[str]] = ("\x01", "no such value")

    @pytest.fixture
    def name(self) -> str:
        return self.fault

    @pytest.fixture
    def member(self, name: str) -> Any:
        return load("faults", name)

    def test_is_found_by_its_file_name(self, name: str, member: Any) -> None:
        """The family lists the fault, under the id it gives itself."""
        assert name in names("faults")
        assert member.id == name

    def test_is_a_frozen_value(self, member: Any) -> None:
        """A fault is a frozen dataclass, so two of the same parameters are equal and hash alike."""
        assert issubclass(member, Fault)
        one, two = (Rule.parse(member.example).fault for _ in range(2))
        assert one == two
        assert hash(one) == hash(two)
        for parameter in dataclasses.fields(member):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(one, parameter.name, None)

    def test_says_what_it_does(self, member: Any) -> None:
        """Summary and value help are one line each, and the taxonomy ids look like such."""
        for text in (member.summary, member.takes):
            assert text.strip() == text != ""
            assert "\n" not in text
        assert len(member.summary) <= 80
        assert member.grounds, "a fault that no bug report grounds is not needed"
        assert all(re.fullmatch(r"[A-Z]\d+[a-z]?", ground) for ground in member.grounds)
        assert len(set(member.grounds)) == len(member.grounds)

    def test_example_reads_and_round_trips(self, name: str, member: Any) -> None:
        """The example is a whole fault line of this fault and reads back to the same rule."""
        rule = Rule.parse(member.example)
        assert rule.fault.id == name
        assert Rule.parse(str(rule)) == rule

    def test_value_reads_back(self, member: Any) -> None:
        """`value` is the text that `parse` reads back; where no value is needed, also that default."""
        fault = Rule.parse(member.example).fault
        assert member.parse(fault.value or None) == fault
        try:
            default = member.parse(None)
        except ValueError:
            return  # the value is required
        assert member.parse(default.value or None) == default

    def test_refuses_bad_values(self, member: Any) -> None:
        """A value that does not read raises ValueError with a sentence, in a rule BadSpec with the line."""
        for bad in self.bad_values:
            with pytest.raises(ValueError, match=r"\w+ \w+") as caught:
                member.parse(bad)
            assert "\n" not in str(caught.value)
            line = member.example.partition(":")[0] + ":" + bad
            with pytest.raises(BadSpec) as spec:
                Rule.parse(line)
            assert repr(line)[1:-1] in str(spec.value)

    def test_is_made_of_verbs(self, member: Any) -> None:
        """An injector gets a tuple of known verbs, at least one."""
        verbs = Rule.parse(member.example).fault.verbs()
        assert isinstance(verbs, tuple)
        assert verbs
        assert all(isinstance(verb, get_args(Verb)) for verb in verbs)

    def test_checks_its_position(self, member: Any) -> None:
        """A fault fires either in responses or at accept; the other is refused with a sentence."""
        at_accept = "@accept" in member.example
        position = Position.parse("body+1" if at_accept else "accept")
        for connection in (True, False):
            with pytest.raises(ValueError, match=member.id):
                member.check_position(position, connection=connection)

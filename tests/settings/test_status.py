"""Status: one bit a condition, one message a bit."""

from __future__ import annotations

import numpy as np
import pytest

import jaxalloc as ja
from jaxalloc.settings.status import Status, explain


def test_every_bit_is_its_own_and_fits_an_int32() -> None:
    values = [bit.value for bit in Status]
    assert values == [2**i for i in range(len(values))]
    assert sum(values) <= np.iinfo(np.int32).max


def test_the_contract_s_conditions_have_bits() -> None:
    wanted = {"INVALID", "ASSET_DROPPED", "CLUSTER_CAP_RELAXED", "ASSET_BOUND_RAISED", "SHARPE_FALLBACK"}
    assert wanted | {"RISK_REGULARIZED", "FEWER_AGGRESSORS"} <= {bit.name for bit in Status}


@pytest.mark.parametrize("bit", list(Status), ids=lambda bit: bit.name)
def test_every_message_is_one_line_of_its_own(bit: Status) -> None:
    assert len(bit.message.splitlines()) == 1
    assert bit.message == bit.message.strip()
    assert len(bit.message) > 20
    assert sum(other.message == bit.message for other in Status) == 1
    assert explain(bit) == [bit.message]
    assert explain(bit.value) == [bit.message]


# "a message that says what to do": the sleeve of fewer aggressors is the rule's own answer to few clusters
@pytest.mark.parametrize("bit", [bit for bit in Status if bit is not Status.FEWER_AGGRESSORS], ids=lambda bit: bit.name)
def test_messages_say_what_to_do(bit: Status) -> None:
    verbs = ("clean", "mask", "remove", "lower", "raise ", "check", "look", "use", "see")
    assert any(verb in bit.message for verb in verbs)


def test_explain_lists_the_bits_that_are_set_lowest_first() -> None:
    assert explain(0) == []
    both = Status.FEWER_AGGRESSORS | Status.CLUSTER_CAP_RELAXED
    assert explain(both) == [Status.CLUSTER_CAP_RELAXED.message, Status.FEWER_AGGRESSORS.message]
    assert explain(np.int32(both)) == explain(int(both))
    assert len(explain(sum(bit.value for bit in Status))) == len(Status)


def test_a_number_of_a_result_decodes() -> None:
    status = Status(int(np.int32(68)))
    assert Status.FEWER_AGGRESSORS in status
    assert Status.CLUSTER_CAP_RELAXED in status
    assert Status.INVALID not in status
    assert ja.Status is Status

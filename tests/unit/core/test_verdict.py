from relayd.core.verdict import DROPS, REFUSAL_STATE, Verdict


def test_the_values_index_counters_without_gaps() -> None:
    assert [verdict.value for verdict in Verdict] == list(range(len(Verdict)))


def test_labels_are_lower_case_names() -> None:
    assert Verdict.SEND_QUEUE_FULL.label == "send_queue_full"
    assert len({verdict.label for verdict in Verdict}) == len(Verdict)


def test_all_but_forwarded_and_answered_are_drops_and_only_drops_are_refused() -> None:
    assert set(Verdict) - set(DROPS) == {Verdict.FORWARDED, Verdict.ANSWERED}
    assert REFUSAL_STATE.keys() <= set(DROPS)

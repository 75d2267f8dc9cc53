"""Names in the files of a search."""

from optuna.trial import TrialState

from sweeps.search.names import STATES, journal_path


def test_each_state_of_optuna_has_a_name():
    assert set(STATES) == {state.name for state in TrialState}


def test_the_journal_is_in_the_folder_of_searches(tmp_path):
    assert journal_path(tmp_path, "loss_weight_search") == tmp_path / "searches" / "loss_weight_search.journal"

from ablations.catalogue import STUDIES
from ablations.claims import CLAIMS


def test_every_claim_is_decided_by_a_study():
    assert set(CLAIMS) == {name for study in STUDIES.values() for name in study.claims}

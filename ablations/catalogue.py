"""Every study, by the name it has on the command line."""

from ablations import prefix_ratio
from ablations.study import Study

STUDIES: dict[str, Study] = {study.slug: study for study in (prefix_ratio.STUDY,)}

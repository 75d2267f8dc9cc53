"""The studies, in a file each or in that of their family (``catalogue.py``)."""

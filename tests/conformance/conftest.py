# The suite runs in processes of its own, under each major of the SDKs: see test_conformance.py.
collect_ignore = ["suite"]

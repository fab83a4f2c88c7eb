"""The sections of a record: typed models, one file for each subject.

A section may hold more keys than are declared here; they are kept. A key that was not given is not written, so that a
record that is read and written again is the same JSON. Values are not converted: text is not taken for a number.
"""

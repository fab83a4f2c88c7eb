"""Images that a Python program hands over: ``evaluate(dataset=(images, labels))``."""

from __future__ import annotations

from functools import cached_property

import robustbench_med as rbmed


class Own(rbmed.Dataset):
    """Images in the memory of this process; see `robustbench_med.own_data`."""

    class Params(rbmed.Params):
        source: str = rbmed.Field(description="Its key, which evaluate() makes from the images, labels and patients.")

    @cached_property
    def _data(self) -> rbmed.OwnData:
        return rbmed.held_data(self.params.source)

    def card(self) -> rbmed.DataCard:
        """Its digest is the key."""
        data, images = self._data, self._data.splits["test"].images
        return rbmed.DataCard(
            name="own",
            classes=data.classes,
            channels=images.shape[1],
            size=images.shape[2],
            licence="that of the images you bring",
            citation="images of a Python program",
            digest=data.key,
            lesion_class=data.lesion,
            patients_known=data.patients_known,
            task=data.task,
        )

    def split(self, name: str) -> rbmed.Split:
        """The images that were given; train and calibration may be empty."""
        return self._data.splits[name]

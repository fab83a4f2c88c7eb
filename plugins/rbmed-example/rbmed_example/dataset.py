"""White squares on noise."""

import torch

import robustbench_med as rbmed


class Example(rbmed.Dataset):
    """Noise with or without a white square, from two sites."""

    class Params(rbmed.Params):
        """Parameters of the data set."""

        images: int = rbmed.Field(32, ge=4, description="Images in each split.")

    def card(self) -> rbmed.DataCard:
        """The data card; ``digest`` must change whenever an image does."""
        return rbmed.DataCard(
            name="example",
            classes=("empty", "square"),
            channels=1,
            size=32,
            licence="CC0-1.0",
            citation="none; drawn by this plugin",
            digest=f"example-1-{self.params.images}",
            synthetic=True,
            lesion_class=1,
        )

    def split(self, name: str) -> rbmed.Split:
        """``train``, ``calibration`` or ``test``; every image is a separate patient."""
        count = self.params.images
        generator = torch.Generator().manual_seed(rbmed.seed_of("example", name) % 2**31)
        labels = torch.arange(count) % 2
        images = 0.4 * torch.rand(count, 1, 32, 32, generator=generator)
        images[labels == 1, :, 12:20, 12:20] += 0.4
        patients = tuple(f"{name}-{number}" for number in range(count))
        sites = tuple("north" if number % 4 < 2 else "south" for number in range(count))
        return rbmed.Split(images, labels, patients, sites)

"""Specs of this distribution."""

from __future__ import annotations

from collections.abc import Iterable

from robustbench_med import DatasetSpec, hookimpl

DATASETS = (
    # Data sets that have a name: two simulated ones, and one to download.
    DatasetSpec(
        name="brainsim",
        target="rbmed_datasets.brainsim.dataset:BrainSim",
        summary="Simulated brain MRI of four hospitals, with and without a tumour (synthetic)",
        title="Simulated brain MRI (brainsim)",
        reference="Fonov et al. 2011, NeuroImage 54:313-327 (ICBM152 2009 atlas)",
        licence="ICBM 152 notice (atlas), Apache-2.0 (simulator)",
        synthetic=True,
        sites=("hospital-1", "hospital-2", "hospital-3", "hospital-4"),
        findings=False,
    ),
    DatasetSpec(
        name="brainsim2",
        target="rbmed_datasets.brainsim.dataset:BrainSim2",
        summary="brainsim, second edition: tumours of graded size and contrast; 600 test patients (synthetic)",
        title="Simulated brain MRI (brainsim2)",
        reference="Fonov et al. 2011, NeuroImage 54:313-327 (ICBM152 2009 atlas)",
        licence="ICBM 152 notice (atlas), Apache-2.0 (simulator)",
        synthetic=True,
        sites=("hospital-1", "hospital-2", "hospital-3", "hospital-4"),
        findings=False,
    ),
    DatasetSpec(
        name="lgg",
        target="rbmed_datasets.lgg:Lgg",
        summary="FLAIR slices of low-grade glioma patients (TCGA); clients are the hospitals",
        title="LGG brain MRI",
        paper="Association of Genomic Subtypes of Lower-Grade Gliomas with Shape Features "
        "Automatically Extracted by a Deep Learning Algorithm",
        venue="Computers in Biology and Medicine 2019",
        reference="Buda, Saha & Mazurowski 2019, Computers in Biology and Medicine 109:218-225 (arXiv 1906.03720)",
        licence="CC BY-NC-SA 4.0",
        needs_root=True,
        finder="rbmed_datasets.first_look:look_for_patients",
        findings=False,
    ),
    # Forms in which people have their own images.
    DatasetSpec(
        name="imagefolder",
        target="rbmed_datasets.imagefolder:ImageFolder",
        summary="A folder of class folders (Br35H, brain-tumor-mri, ...), near-duplicates grouped before splitting",
        title="Image folder",
        licence="that of the images you bring",
        needs_root=True,
        finder="rbmed_datasets.first_look:look_for_classes",
    ),
    DatasetSpec(
        name="table",
        target="rbmed_datasets.table:Table",
        summary="A table (CSV, TSV, Parquet) of images with labels, patients, sites, splits and masks",
        title="Image table",
        licence="that of the images you bring",
        needs_root=True,
        finder="rbmed_datasets.first_look:look_for_table",
        root_files=(".csv", ".tsv", ".parquet"),
    ),
    DatasetSpec(
        name="nifti",
        target="rbmed_datasets.nifti:Nifti",
        summary="Slices of NIfTI volumes (MSD, nnU-Net, BraTS, ...), labelled by label maps or class folders",
        title="NIfTI volumes",
        licence="that of the volumes you bring",
        needs_root=True,
        finder="rbmed_datasets.first_look:look_for_volumes",
        findings=False,
    ),
    DatasetSpec(
        name="medmnist",
        target="rbmed_datasets.medmnist:MedMnist",
        summary="A .npz file of MedMNIST v2 or MedMNIST+ (2-D, or slices of 3-D sets), in its official split",
        title="MedMNIST",
        paper="MedMNIST v2: A Large-Scale Lightweight Benchmark for 2D and 3D Biomedical Image Classification",
        venue="Scientific Data 2023",
        reference="Yang et al. 2023, Scientific Data 10:41",
        licence="CC BY 4.0 (dermamnist: CC BY-NC 4.0)",
        needs_root=True,
        finder="rbmed_datasets.first_look:look_for_medmnist",
        root_files=(".npz",),
    ),
    DatasetSpec(
        name="own",
        target="rbmed_datasets.from_python:Own",
        summary="Images that a Python program hands over: evaluate(dataset=(images, labels))",
        title="Own images",
        licence="that of the images you bring",
    ),
    DatasetSpec(
        name="dicom",
        target="rbmed_datasets.dicom:Dicom",
        summary="DICOM files in class folders; patients and sites are salted hashes of what their headers say",
        title="DICOM images",
        licence="that of the images you bring",
        needs_root=True,
        finder="rbmed_datasets.first_look:look_for_dicom",
    ),
)


@hookimpl
def rbmed_datasets() -> Iterable[DatasetSpec]:
    """The data sets."""
    return DATASETS

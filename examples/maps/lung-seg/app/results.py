"""What the application leaves behind: a DICOM SEG, a DICOM SR with the volumes, and the numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from ct_series import CtSeries
from lungs import Lungs, Side
from pydicom.dataset import Dataset
from pydicom.sr.codedict import Code, codes

NAME = "lung-seg"
VERSION = "1.0.0"
MANUFACTURER = "airflow-monai"
SERIAL_NUMBER = "1"
SEG_SERIES_NUMBER = 9001
SR_SERIES_NUMBER = 9002
ALGORITHM = f"{NAME} {VERSION}: threshold, connected components, closing"
ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
MORPHOLOGICAL_OPERATIONS = Code("123104", "DCM", "Morphological Operations")
CT_CHEST = Code("24627-2", "LN", "CT Chest")
MILLILITER = Code("ml", "UCUM", "ml")
LATERALITY = {Side.LEFT: codes.SCT.Left, Side.RIGHT: codes.SCT.Right}
COLOUR = {Side.LEFT: (60.0, -40.0, 40.0), Side.RIGHT: (60.0, 30.0, 60.0)}  # CIELab


def write(folder: Path, ct: CtSeries, lungs: Lungs) -> dict[str, object]:
    """Write ``seg.dcm``, ``sr.dcm`` and ``metadata.json`` into ``folder`` and return the content of the last."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [side for side in Side if lungs.volumes_ml[side] > 0]
    tracking = {side: hd.UID() for side in found}
    segmentation = _segmentation(ct, lungs, found, tracking)
    segmentation.save_as(folder / "seg.dcm")
    _report(ct, lungs, found, tracking, segmentation).save_as(folder / "sr.dcm")
    numbers = {
        "volume_ml": round(sum(lungs.volumes_ml.values()), 1),
        "left_ml": round(lungs.volumes_ml[Side.LEFT], 1),
        "right_ml": round(lungs.volumes_ml[Side.RIGHT], 1),
        "slices": len(ct.images),
        "algorithm": ALGORITHM,
    }
    write_metadata(folder, numbers)
    return numbers


def write_metadata(folder: Path, content: dict[str, object]) -> None:
    """Write ``metadata.json``: the result values that conditions of a workflow may ask for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _segmentation(
    ct: CtSeries, lungs: Lungs, found: Sequence[Side], tracking: dict[Side, hd.UID]
) -> hd.seg.Segmentation:
    numbers = np.zeros(max(Side) + 1, dtype=np.uint8)
    for number, side in enumerate(found, start=1):
        numbers[side] = number
    return hd.seg.Segmentation(
        source_images=ct.images,
        pixel_array=numbers[lungs.labels],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(number, side, tracking[side]) for number, side in enumerate(found, start=1)],
        series_instance_uid=hd.UID(),
        series_number=SEG_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=NAME,
        software_versions=VERSION,
        device_serial_number=SERIAL_NUMBER,
        content_label="LUNGS",
        content_description="Left and right lung",
        series_description="Lung segmentation",
    )


def _segment(number: int, side: Side, tracking_uid: hd.UID) -> hd.seg.SegmentDescription:
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"{side.name.title()} Lung",
        segmented_property_category=ANATOMICAL_STRUCTURE,
        segmented_property_type=codes.SCT.Lung,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(NAME, MORPHOLOGICAL_OPERATIONS, VERSION),
        tracking_uid=tracking_uid,
        tracking_id=f"{side.name.title()} Lung",
        display_color=hd.color.CIELabColor(*COLOUR[side]),
    )
    # PS3.3 section C.8.20.2: the side modifies the property type
    property_type = description.SegmentedPropertyTypeCodeSequence[0]
    property_type.SegmentedPropertyTypeModifierCodeSequence = [hd.sr.CodedConcept.from_code(LATERALITY[side])]
    return description


def _report(
    ct: CtSeries, lungs: Lungs, found: Sequence[Side], tracking: dict[Side, hd.UID], segmentation: hd.seg.Segmentation
) -> hd.sr.ComprehensiveSR:
    """Measurement report by PS3.16 TID 1500: one volume for each segment."""
    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(), name=NAME, manufacturer_name=MANUFACTURER, model_name=NAME, serial_number=SERIAL_NUMBER
        ),
    )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=CT_CHEST,
        imaging_measurements=[
            _volume(number, side, tracking[side], lungs.volumes_ml[side], segmentation)
            for number, side in enumerate(found, start=1)
        ],
    )
    return hd.sr.ComprehensiveSR(
        evidence=_evidence(ct, segmentation),
        content=report,
        series_instance_uid=hd.UID(),
        series_number=SR_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        series_description="Lung volumes",
    )


def _evidence(ct: CtSeries, segmentation: hd.seg.Segmentation) -> list[Dataset]:
    return [segmentation, *ct.images]


def _volume(
    number: int, side: Side, tracking_uid: hd.UID, volume_ml: float, segmentation: hd.seg.Segmentation
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    algorithm = hd.sr.AlgorithmIdentification(NAME, VERSION)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=tracking_uid, identifier=f"{side.name.title()} Lung"),
        referenced_segment=hd.sr.ReferencedSegment.from_segmentation(segmentation, number),
        finding_type=codes.SCT.Lung,
        finding_category=ANATOMICAL_STRUCTURE,
        finding_sites=[hd.sr.FindingSite(anatomic_location=codes.SCT.Lung, laterality=LATERALITY[side])],
        measurements=[
            hd.sr.Measurement(name=codes.SCT.Volume, value=round(volume_ml, 1), unit=MILLILITER, algorithm_id=algorithm)
        ],
    )

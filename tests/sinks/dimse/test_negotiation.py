"""The PDUs of an association's start, against pynetdicom's, and cut off anywhere."""

from __future__ import annotations

import struct

import pytest

from airflow_monai.sinks.dimse import negotiation
from tests.pacs import CT, EXPLICIT_LITTLE

CONTEXTS = {1: (CT, EXPLICIT_LITTLE), 3: (CT, "1.2.840.10008.1.2"), 255: ("1.2.3", "1.2.840.10008.1.2.4.80")}


def test_another_implementation_reads_our_request() -> None:
    from pynetdicom.pdu import A_ASSOCIATE_RQ

    body = negotiation.request("PACS", "MONAI", CONTEXTS, 16_384)
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(struct.pack(">BxI", 1, len(body)) + body)
    assert (pdu.called_ae_title, pdu.calling_ae_title) == ("PACS", "MONAI")
    assert {
        item.context_id: (item.abstract_syntax, *item.transfer_syntax) for item in pdu.presentation_context
    } == CONTEXTS
    assert pdu.user_information is not None and pdu.user_information.maximum_length == 16_384
    assert pdu.application_context_name == "1.2.840.10008.3.1.1.1"


def answer() -> bytes:
    """An A-ASSOCIATE-AC by pynetdicom: context 1 accepted, 3 refused."""
    from pynetdicom.pdu import A_ASSOCIATE_AC
    from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
    from pynetdicom.presentation import build_context

    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "MONAI", "PACS"
    primitive.result, primitive.result_source = 0, 1
    results = []
    for context_id, result in ((1, 0), (3, 4)):
        context = build_context(CT, EXPLICIT_LITTLE)
        context.context_id, context.result = context_id, result
        results.append(context)
    primitive.presentation_context_definition_results_list = results
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 28_672
    implementation.implementation_class_uid = "1.2.3.4"
    primitive.user_information = [length, implementation]
    return A_ASSOCIATE_AC(primitive).encode()[6:]


def test_we_read_anothers_answer() -> None:
    assert negotiation.accepted(answer()) == negotiation.Accepted(frozenset({1}), 28_672)


def test_an_answer_that_is_cut_off_is_an_error_and_nothing_else() -> None:
    whole = answer()
    for end in range(len(whole)):
        try:
            assert negotiation.accepted(whole[:end]).contexts <= {1}
        except ValueError:
            continue
    with pytest.raises(ValueError, match="cut off"):
        negotiation.accepted(whole[:-1])


@pytest.mark.parametrize(
    ("body", "reason", "transient"),
    [
        (b"\0\1\1\7", "Called AE title not recognised", False),
        (b"\0\2\3\2", "Local limit exceeded", True),
        (b"\0\1\1\x09", "source 1, reason 9", False),
        (b"\0", "no reason that can be understood", False),
    ],
)
def test_rejections_are_told(body: bytes, reason: str, transient: bool) -> None:
    assert negotiation.rejection(body) == (reason, transient)


def test_an_export_needs_no_dicom_library() -> None:
    """Importing one costs a worker half a second of CPU at each export."""
    import subprocess
    import sys

    code = (
        "import sys, airflow_monai.sinks.dicom, airflow_monai.sinks.dimse.lines, airflow_monai.sinks.dimse.query\n"
        "from airflow_monai.sinks.dimse.conversion import alternatives\n"
        "assert alternatives('1.2.840.10008.1.2.4.80') and alternatives('1.2.840.10008.1.2.1')\n"
        "print([name for name in ('pydicom', 'pynetdicom', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=True)
    assert done.stdout.strip() == "[]"

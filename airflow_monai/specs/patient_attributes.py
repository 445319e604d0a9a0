"""DICOM attributes that may name a patient: they never go into an e-mail.

Derived from the Patient, Visit and clinical trial modules of PS3.3 and the attributes that the basic profile of PS3.15,
annex E, removes because they identify a person: everything of the groups 0010 and 0038, every person's name, addresses
and telephone numbers, and the free texts in which people write about a patient. Private attributes may hold anything.
"""

from __future__ import annotations

PATIENT_GROUPS = frozenset({"0010", "0038"})
IDENTIFYING = frozenset(
    {
        "00000902",  # ErrorComment
        "00080090",  # ReferringPhysicianName
        "00080092",  # ReferringPhysicianAddress
        "00080094",  # ReferringPhysicianTelephoneNumbers
        "0008009C",  # ConsultingPhysicianName
        "00080418",  # TransactionStatusComment
        "00081048",  # PhysiciansOfRecord
        "00081050",  # PerformingPhysicianName
        "00081060",  # NameOfPhysiciansReadingStudy
        "00081070",  # OperatorsName
        "00081080",  # AdmittingDiagnosesDescription
        "00084000",  # IdentifyingComments
        "00120040",  # ClinicalTrialSubjectID
        "00120041",  # IssuerOfClinicalTrialSubjectID
        "00120042",  # ClinicalTrialSubjectReadingID
        "00140104",  # SecondaryReviewerName
        "00142006",  # EvaluatorName
        "00184000",  # AcquisitionComments
        "0018991A",  # InstructionPerformanceComment
        "00204000",  # ImageComments
        "00209158",  # FrameComments
        "0022112C",  # CalculationComment
        "00240044",  # CommentsOnPatientPerformanceOfVisualField
        "00240069",  # PatientReliabilityIndicator
        "00284000",  # ImagePresentationComments
        "00287007",  # SystemStatusComment
        "0028702A",  # TestResultComment
        "00321030",  # ReasonForStudy
        "00321032",  # RequestingPhysician
        "00324000",  # StudyComments
        "00400006",  # ScheduledPerformingPhysicianName
        "00400280",  # CommentsOnThePerformedProcedureStep
        "00400310",  # CommentsOnRadiationDose
        "00400400",  # CommentsOnTheScheduledProcedureStep
        "00401002",  # ReasonForTheRequestedProcedure
        "00401004",  # PatientTransportArrangements
        "00401008",  # ConfidentialityCode
        "00401010",  # NamesOfIntendedRecipientsOfResults
        "00401102",  # PersonAddress
        "00401103",  # PersonTelephoneNumbers
        "00401104",  # PersonTelecomInformation
        "00401400",  # RequestedProcedureComments
        "00402008",  # OrderEnteredBy
        "00402010",  # OrderCallbackPhoneNumber
        "00402011",  # OrderCallbackTelecomInformation
        "00402400",  # ImagingServiceRequestComments
        "00403001",  # ConfidentialityConstraintOnPatientDataDescription
        "00404037",  # HumanPerformerName
        "0040A067",  # DocumentAuthorTrial
        "0040A075",  # VerifyingObserverName
        "0040A123",  # PersonName
        "0040A160",  # TextValue
        "0040A307",  # CurrentObserverTrial
        "0040A33A",  # ReportStatusCommentTrial
        "0040A352",  # VerbalSourceTrial
        "00440106",  # AssertionComments
        "00660004",  # SurfaceComments
        "00700006",  # UnformattedTextValue
        "00700084",  # ContentCreatorName
        "0072006A",  # SelectorPNValue
        "01000424",  # SOPAuthorizationComment
        "20300020",  # TextString
        "30040006",  # DoseComment
        "300600A6",  # ROIInterpreter
        "300600C8",  # FrameOfReferenceTransformationComment
        "30080202",  # TreatmentStatusComment
        "300A0402",  # SetupImageComment
        "300E0008",  # ReviewerName
        "40000010",  # Arbitrary
        "40004000",  # TextComments
        "40080102",  # InterpretationRecorder
        "4008010A",  # InterpretationTranscriber
        "4008010B",  # InterpretationText
        "4008010C",  # InterpretationAuthor
        "40080114",  # PhysicianApprovingInterpretation
        "40080115",  # InterpretationDiagnosisDescription
        "40080119",  # DistributionName
        "4008011A",  # DistributionAddress
        "40080300",  # Impressions
        "40084000",  # ResultsComments
    }
)
"""Tags outside of those groups."""


def may_name_patient(tag: str) -> bool:
    """Whether the values of an attribute may tell who the patient is.

    :param tag: 8 upper-case hex digits.
    """
    group = tag[:4]
    return group in PATIENT_GROUPS or tag in IDENTIFYING or int(group, 16) % 2 == 1


def names_patient(path: str) -> bool:
    """Whether what a path of a template stands for may tell who the patient is, as far as the path says."""
    from airflow_monai.specs.attributes import attribute, canonical

    if path.startswith("context.input.patient_details"):
        return True
    found = attribute(canonical(path.strip()))
    return found is not None and found.tag is not None and may_name_patient(found.tag)

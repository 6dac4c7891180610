"""What can go wrong, in words: every refusal of the library is a `ModeError` that says where, what and what to do.

The command line and the dashboard show these, and errors of the disk (`OSError`); anything else is a fault of ours and
is shown as one.
"""

import errno

WAYS_OUT = {
    errno.ENOSPC: "Make room there, or choose another place.",
    errno.EDQUOT: "Make room there, or choose another place.",
    errno.EACCES: "Get the right to read and write there, or choose another place.",
    errno.EPERM: "Get the right to read and write there, or choose another place.",
    errno.EROFS: "Choose a place that may be written.",
    errno.ENOENT: "Check the path.",
    errno.ENOTDIR: "A part of the path is a file; choose another place.",
    errno.EISDIR: "That is a folder; name a file in it.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


class ModeError(ValueError):
    """Something asked for that cannot be; the text names the file, field or option, what is wrong, and what to do."""


class FileError(ModeError):
    """A file that cannot be read back: missing, damaged, of another kind or of a newer format; it is named."""


class BusyError(ModeError):
    """Another process, which is named, writes there just now."""


class RunError(FileError):
    """A run that cannot be opened or written; the text names the folder or file and what to do."""


class StatisticsError(FileError):
    """Statistics that cannot be read, or cannot be added to each other."""


class ExemplarsError(FileError):
    """Exemplars that cannot be read or merged; the text names the file and what to do."""


class AllocationError(FileError):
    """A request that no allocation can meet, with the constraint and the feasible range; or an unreadable file."""


class ScoresError(FileError):
    """A record that holds no scores."""


class ReferenceMissing(ModeError):
    """A reference that lacks a sample, or was recorded where it means nothing."""


class EvidenceError(FileError):
    """Evidence that cannot be read, with the file and what to do."""


class PredictionError(FileError):
    """An anchor that cannot be read, or does not fit the run; the text says what to do."""


class CheckError(FileError):
    """A check that cannot be read or made; the text says what to do."""


class PackedFileError(FileError):
    """A file of packed experts that is missing, cut off, or something else."""


class ReleasedJsonError(FileError):
    """A file that is not what the released code writes; the text names file, layer and field."""


class CalibrationError(ModeError):
    """The model could not be measured; the text says where it stopped and what to do."""


class ImportanceError(ModeError):
    """A question that these statistics cannot answer; the text says which setting to change, and to what."""


class QuantizationError(ModeError):
    """An allocation that does not fit the model, a quantizer that is not there, or one that cannot be used so."""


class QuantizerMissing(QuantizationError):
    """A quantizer whose optional package is not installed; the text says how to get it."""


class HessianError(QuantizationError):
    """A Hessian that is not one: not finite, or not positive definite in spite of the damping."""


class ExportError(ModeError):
    """An export that cannot be made, with what stands in its way."""


class SettingsError(ModeError):
    """A setting or option that makes no sense, with what is allowed."""


def in_words(refused: BaseException) -> str:
    """A refusal as a person reads it; of the disk with the path, what is wrong there, and what to do."""
    if not isinstance(refused, OSError) or refused.strerror is None:
        return str(refused)
    path = f"{refused.filename}: " if refused.filename is not None else ""
    return f"{path}{refused.strerror}. {WAYS_OUT.get(refused.errno or 0, '')}".rstrip()

"""Allocations as files that other software loads, each with a manifest, each written whole or not at all."""

from mode_core.export.expert_bits import read_expert_bits
from mode_core.export.folder import ExportError
from mode_core.export.target import GROUPS, Target
from mode_core.export.targets import TARGETS
from mode_core.export.writing import ExportResult, export

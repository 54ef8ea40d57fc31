"""CrashReport: what a proof was made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """How often a workflow was killed and resumed until it was believed.

    Attributes:
        crashes: How often it was killed.
        boundaries: How many of these were between two pieces of work.
        resumes: How often it was resumed afterwards.
        reruns: How many steps ran again in all, because the kill came before their checkpoint was there.
        missed: How many moments were not reached again, because the run took another way that time.
    """

    crashes: int
    boundaries: int
    resumes: int
    reruns: int
    missed: int

    def __str__(self) -> str:
        missed = f"; {self.missed} moments were not reached again" if self.missed else ""
        return (
            f"survived {self.crashes} crashes, {self.boundaries} between two pieces of work and "
            f"{self.crashes - self.boundaries} while the storage was writing; in {self.resumes} resumes {self.reruns} "
            f"steps ran again, none of which was finished{missed}"
        )

"""All mutants, by kind. The number of one, which the word `mutant` of a machine's config holds, is its place here."""

from benchmarks.mutants.addresses import BOUNDS, PERMISSIONS
from benchmarks.mutants.contents import CONTENTS, LIFE
from benchmarks.mutants.counting import ACCOUNTING, COUNTING
from benchmarks.mutants.flushing import FLUSHING
from benchmarks.mutants.locking import BARRIERS, LOCKING

KINDS = {
    "flushing": FLUSHING,
    "locking": LOCKING,
    "barriers": BARRIERS,
    "counting": COUNTING,
    "accounting": ACCOUNTING,
    "bounds": BOUNDS,
    "permissions": PERMISSIONS,
    "contents": CONTENTS,
    "life of memory": LIFE,
}
MUTANTS = {mutant.name: mutant for mutants in KINDS.values() for mutant in mutants}
NUMBERS = {name: number for number, name in enumerate(MUTANTS, 1)}
KIND_OF = {mutant.name: kind for kind, mutants in KINDS.items() for mutant in mutants}

"""English function words (stop words), which express no topic. Queries leave them out."""

_LINES = (
    # Questions and requests.
    "who whom whose what which when where why how please tell",
    # Forms of to be, to do, to have, and modal verbs.
    "am is are was were be been being isnt arent wasnt werent do does did done doing dont doesnt didnt",
    "have has had having havent hasnt hadnt can cannot cant could couldnt will wont would wouldnt shall",
    "should shouldnt may might must",
    # Articles, pronouns, and demonstratives.
    "a an the i me my mine we us our ours you your yours he him his she her hers it its they them their",
    "theirs this that these those there here some any",
    # Prepositions, conjunctions, and some adverbs.
    "of to in on at by for from with about into onto as than and or but if so because while not no",
    "also just then ever",
)
STOP_WORDS = frozenset(word for line in _LINES for word in line.split())

"""Generated conversations of two friends over many sessions, with questions whose answers are known turns.

A topic has turns that lead to it, turns that answer, and questions that ask for the same in other words.
Its details come from lists, so several turns mention the same subjects and one has the answer.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

NAMES = (
    "Maria",
    "Jonas",
    "Aylin",
    "Peter",
    "Chioma",
    "Sofia",
    "Kenji",
    "Lucas",
    "Nora",
    "Imran",
    "Elena",
    "Tom",
)
WORDS = {
    "pet": ("Rex", "Bella", "Milo", "Luna", "Biscuit", "Shadow", "Pepper", "Oscar"),
    "animal": ("puppy", "kitten", "rabbit", "parrot", "tortoise"),
    "city": (
        "Lisbon",
        "Kyoto",
        "Hamburg",
        "Toronto",
        "Nairobi",
        "Krakow",
        "Valencia",
        "Oslo",
        "Montreal",
        "Seville",
    ),
    "country": ("Portugal", "Japan", "Kenya", "Poland", "Norway", "Peru", "Vietnam", "Morocco"),
    "food": ("lasagna", "ramen", "paella", "dumplings", "curry", "pancakes", "gnocchi", "tacos"),
    "instrument": ("violin", "piano", "cello", "guitar", "clarinet", "ukulele"),
    "thing": ("blue bowl", "tall vase", "teapot", "wooden stool", "woollen scarf", "silver ring"),
    "book": ("Middlemarch", "The Left Hand of Darkness", "Dune", "Beloved", "The Overstory", "Piranesi"),
    "job": ("nurse", "teacher", "carpenter", "translator", "architect", "baker", "librarian"),
    "relative": ("sister", "brother", "cousin", "aunt", "grandmother", "nephew"),
    "month": (
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
    ),
    "day": ("3rd", "7th", "12th", "18th", "21st", "25th", "30th"),
    "number": ("12", "25", "40", "75", "150", "1,200"),
    "sport": ("climbing", "rowing", "fencing", "badminton", "swimming", "running"),
    "illness": ("migraine", "sprained ankle", "broken wrist", "back pain", "flu"),
    "plant": ("tomatoes", "sunflowers", "basil", "orchids", "strawberries", "lavender"),
    "colour": ("green", "yellow", "turquoise", "purple", "orange"),
    "cause": ("animal shelter", "food bank", "refugee centre", "river clean-up", "library"),
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A turn that leads to the answer, forms of the answer, and forms of the question. {other} is the
    listener.
    """

    leads: Sequence[str]
    answers: Sequence[str]
    questions: Sequence[str]


TOPICS = [
    Topic(
        ["Any news from home?", "You look happy today, {other} told me something happened."],
        ["We adopted a {animal} last weekend and called it {pet}.", "Our new {animal} {pet} keeps us awake."],
        ["What is the name of the {animal} that {me} adopted?", "Which {animal} keeps {me} awake, {pet}?"],
    ),
    Topic(
        ["Which city are you moving to?", "So where will you live after the summer?"],
        ["{city}, in {month}! I can't wait.", "It will be {city}, from {month} on."],
        ["Which city is {me} moving to?", "When does {me} move to {city}?"],
    ),
    Topic(
        ["How did the pottery class go?", "Did you make anything in your course?"],
        ["Loved it, I made a {thing} for my {relative}.", "Pretty well. A {thing}, it's drying now."],
        ["What did {me} make in the pottery class?", "For whom did {me} make the {thing}?"],
    ),
    Topic(
        ["What are you reading these days?", "Any good novels lately?"],
        ["I just finished {book}, it moved me deeply.", "{book}. Half-way through and hooked."],
        ["Which novels has {me} been reading?", "Who read {book}?"],
    ),
    Topic(
        ["How is your {relative} doing?", "Did you visit your family?"],
        ["My {relative} started working as a {job}.", "She's a {job} now and loves the work."],
        ["Where does {me}'s {relative} work?", "Whose {relative} is a {job}?"],
    ),
    Topic(
        ["What did you cook for the guests?", "Was dinner alright?"],
        ["I tried {food} from scratch, nobody complained.", "{food}, and there was nothing left over."],
        ["What did {me} cook when guests came?", "For which dinner did {me} cook {food}?"],
    ),
    Topic(
        ["Are you still practising music?", "I heard noises from your flat!"],
        ["I've been learning the {instrument} since {month}.", "That's me and my {instrument}, sorry."],
        ["Since when has {me} learned the {instrument}?", "What music is {me} practising?"],
    ),
    Topic(
        ["When is the big race?", "Did you sign up for the competition?"],
        ["On {month} {day}, I'm terribly nervous.", "Yes, it's the {day} of {month}."],
        ["When does {me}'s big race take place?", "Is it the {day} of {month} on which {me} competes?"],
    ),
    Topic(
        ["How was the doctor's appointment?", "Are you feeling better?"],
        ["It's a {illness}, I have to rest for {number} days.", "The {illness} is nearly gone, thanks."],
        ["Why did {me} have an appointment with the doctor?", "How is {me}'s {illness}?"],
    ),
    Topic(
        ["What grows on your balcony?", "Is the garden doing well?"],
        ["The {plant} are finally growing!", "Mostly {plant} this year, {number} of them."],
        ["What is {me} growing on the balcony?", "Does {me} grow {plant}?"],
    ),
    Topic(
        ["Did the fundraiser work out?", "How was the charity evening?"],
        ["We raised {number} euros for the {cause}.", "Great, {number} people came for the {cause}."],
        ["How much money was raised for the {cause}?", "What did {me}'s charity evening support?"],
    ),
    Topic(
        ["What did you paint the kitchen?", "Is the renovation over?"],
        ["{colour}, and the hallway as well.", "Nearly, the walls are {colour} now."],
        ["What colour did {me} paint the kitchen?", "Are {me}'s walls {colour} after the renovation?"],
    ),
    Topic(
        ["Where did you go on vacation?", "You are tanned! Holidays?"],
        ["We hiked through {country} for {number} days.", "Yes, {country} with my {relative}."],
        ["Where did {me} go hiking for {number} days?", "With whom did {me} travel to {country}?"],
    ),
    Topic(
        ["Do you do any sports?", "What keeps you so fit?"],
        ["{sport}, twice a week before work.", "I joined a club for {sport} in {month}."],
        ["How often does {me} go {sport}?", "What does {me} do to keep fit?"],
    ),
]
CHATTER = [
    "Hi {other}! How have you been?",
    "Hey {me}, good to hear from you.",
    "That sounds wonderful, tell me more.",
    "I know what you mean, work has been so busy lately.",
    "Wow, congratulations {other}! You must be proud.",
    "Thanks {other}, that means a lot to me.",
    "My {relative} said the same about {city}.",
    "I once had {food} in {city}, it was the best day of that {month}.",
    "A friend plays the {instrument}, they practise every evening.",
    "Have you heard of {book}? People keep telling me to read it.",
    "The weather here in {month} is terrible, I want a vacation.",
    "We should cook {food} together when you visit.",
    "My neighbour's {animal} ran into the kitchen again.",
    "I read that {sport} is good against {illness}.",
    "Let's talk again on the {day}, take care!",
    "The {cause} is looking for people, did you know?",
    "I bought {plant} at the market, {number} of them.",
    "Do you want to go to the pottery class with me?",
    "The race in {city} was on the news.",
    "My doctor says the usual.",
]


@dataclass(slots=True)
class Conversation:
    """Sessions of turns, and questions with the session and the turn that answer them."""

    sessions: list[list[str]] = field(default_factory=list)
    questions: list[tuple[str, tuple[int, int]]] = field(default_factory=list)


def converse(seed: int, sessions: int = 16) -> Conversation:
    """Returns the same conversation for the same seed. Each session has one topic for each of the two
    friends.
    """
    drawn = random.Random(seed)
    names = drawn.sample(NAMES, 2)
    made = Conversation()
    for number in range(sessions):
        turns = [_filled(drawn.choice(CHATTER[:2]), names, drawn)]
        for turn in range(2):
            me, other = names[turn], names[1 - turn]
            turns += list(_chatter(drawn, names))
            topic = drawn.choice(TOPICS)
            values = {kind: drawn.choice(words) for kind, words in WORDS.items()} | {"me": me, "other": other}
            turns.append(drawn.choice(topic.leads).format(**values))
            turns.append(drawn.choice(topic.answers).format(**values))
            question = drawn.choice(topic.questions).format(**values)
            made.questions.append((question, (number, len(turns) - 1)))
        turns += list(_chatter(drawn, names))
        made.sessions.append(turns)
    return made


def _chatter(drawn: random.Random, names: Sequence[str]) -> Iterator[str]:
    for _ in range(drawn.randrange(2, 9)):
        yield _filled(drawn.choice(CHATTER), names, drawn)


def _filled(turn: str, names: Sequence[str], drawn: random.Random) -> str:
    me, other = drawn.sample(names, 2)
    values = {kind: drawn.choice(words) for kind, words in WORDS.items()}
    return turn.format(me=me, other=other, **values)

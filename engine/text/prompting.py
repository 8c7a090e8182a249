"""What goes around a text before a model reads it: prompts, instructions, and the template of a decoder reranker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from ..errors import InputError
from .checking import checked

LONGEST_PROMPT = 4096
"""Characters of a prompt or an instruction that comes with a request; the longest known ones have 400."""
INSTRUCTION = "{instruction}"
QUERY, PASSAGE = "query", "passage"
# What clients call the two kinds of text that models have prompts for. Where the model has no prompt of that name, the
# first row is the query's default, the second the passage's, and the uses in the third have no prompt.
ALIASES: Mapping[str, str | None] = {
    **dict.fromkeys(("search_query", "retrieval.query"), QUERY),
    **dict.fromkeys(("document", "search_document", "retrieval.passage"), PASSAGE),
    **dict.fromkeys(("classification", "clustering", "separation", "text-matching"), None),
}
NO_ALIASES: Mapping[str, str | None] = {}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prompts(_Record):
    """Text put before a query or a passage (e5: `query: `, `passage: `)."""

    query: str = ""
    passage: str = ""
    named: dict[str, str] = Field(default_factory=dict)
    """The model's own prompts by the names that it gives them, which a request may ask for."""
    instructed: str | None = None
    """A query's prompt around the task in words, which stands at `{instruction}`; None: the model takes none."""


class PairText(_Record):
    """What a decoder reads of a pair, as text: head, instruction, neck, query, middle, passage, tail.

    A request's text is put between these as it is, and the whole is tokenised: a word of the query and a sign of the
    template that stand together may be one token. So a query is tokenised with all that comes before the passage. The
    passage's ids are stored, and are those of the passage with the blanks that the template has before it (`lead`):
    ` hello` is one token.
    """

    head: str
    instruction: str | None
    """The instruction where a request gives none; None: the model takes none."""
    neck: str
    middle: str
    tail: str

    @property
    def lead(self) -> str:
        """The blanks before a passage. Not its line breaks: they belong to the sign before them (`:` and `\\n` are one
        token)."""
        return self.middle[len(self.middle.rstrip(" ")) :]

    def around_query(self, instruction: str | None = None) -> tuple[str, str]:
        """What comes before the query, and what between the query and the passage's `lead`."""
        said = self.instruction if instruction is None else instruction
        return self.head + (said or "") + self.neck, self.middle.rstrip(" ")


@dataclass(frozen=True, slots=True)
class PromptWish:
    """What a request wants around its texts; nothing: what the model has by default."""

    name: str | None = None
    """One of the model's prompts, by its name."""
    text: str | None = None
    """The prompt itself; empty: none."""
    instruction: str | None = None
    """The task in words, for a model that takes one."""

    def __post_init__(self) -> None:
        """Raises InputError for what is no text, empty or too long, and for a prompt beside the name of one."""
        for what, value in (("prompt_name", self.name), ("prompt", self.text), ("instruction", self.instruction)):
            if value is not None and len(checked(value, what, blank=what == "prompt")) > LONGEST_PROMPT:
                raise InputError(f"{what} has {len(value)} characters; the limit is {LONGEST_PROMPT}")
        if self.text is not None and self.name is not None:
            raise InputError("give prompt or prompt_name, one of the two")

    def for_query(self) -> PromptWish:
        """The same, the model's prompt for queries where nothing is wished."""
        return PromptWish(QUERY) if self == NO_WISH else self

    @property
    def size(self) -> int:
        """Characters that it brings along."""
        return len(self.text or "") + len(self.instruction or "")


NO_WISH = PromptWish()


@dataclass(frozen=True, slots=True)
class Prompting:
    """How the model called `model` wants its texts."""

    model: str
    prompts: Prompts = field(default_factory=Prompts)
    pair_text: PairText | None = None

    @property
    def takes_instruction(self) -> bool:
        """Whether a request may give the task in words."""
        told = self.prompts.instructed if self.pair_text is None else self.pair_text.instruction
        return told is not None

    @property
    def text_prompts(self) -> list[str]:
        """Names of a bi-encoder's prompts: the two defaults and its own."""
        return list(dict.fromkeys([QUERY, PASSAGE, *self.prompts.named]))

    @property
    def query_prompts(self) -> list[str]:
        """Names of a cross-encoder's prompts; those of a decoder are instructions for its template."""
        return list(dict.fromkeys([*([QUERY] if self.pair_text is None else []), *self.prompts.named]))

    @property
    def lead(self) -> str:
        """What a passage begins with where a pair is joined; the stored ids have it."""
        return "" if self.pair_text is None else self.pair_text.lead

    def before_text(self, wish: PromptWish) -> str:
        """What a bi-encoder's text begins with; nothing where nothing is wished.

        Raises InputError for a name that the model has not, for an instruction that it does not take, or that is given
        with another prompt than the query's.
        """
        _check_alone(wish)
        if wish.text is not None:
            return wish.text
        if wish.instruction is not None:
            return self._instructed(wish.instruction, wish.name)
        return "" if wish.name is None else self._named(wish.name, self.text_prompts, ALIASES)

    def query(self, text: str, wish: PromptWish = NO_WISH) -> str:
        """What a cross-encoder reads of a query, and around it; the model's default where nothing is wished.

        As sentence-transformers has it: a prompt stands before the query, never before the passage, and that of a
        decoder is the instruction of its template. Raises InputError as `before_text` does.
        """
        before, behind = self._around_query(wish)
        return before + text + behind

    def _around_query(self, wish: PromptWish) -> tuple[str, str]:
        _check_alone(wish)
        if self.pair_text is not None:
            return self.pair_text.around_query(self._told(wish))
        if wish.text is not None:
            return wish.text, ""
        if wish.instruction is not None:
            return self._instructed(wish.instruction, wish.name), ""
        return self.prompts.query if wish.name is None else self._named(wish.name, self.query_prompts), ""

    def _named(self, name: str, names: list[str], aliases: Mapping[str, str | None] = NO_ALIASES) -> str:
        """The model's own by their names, else the two defaults, else what clients call them."""
        defaults = {QUERY: self.prompts.query, PASSAGE: self.prompts.passage}
        if name in names:
            return (defaults | self.prompts.named)[name]
        if name not in aliases:
            known = ", ".join(dict.fromkeys([*names, *aliases])) or "none"
            raise InputError(f"{self.model} has no prompt of that name; known are {known}")
        kind = aliases[name]
        return "" if kind is None else defaults[kind]

    def _instructed(self, instruction: str, name: str | None) -> str:
        if self.prompts.instructed is None:
            raise InputError(f"{self.model} takes no instruction; give a prompt, or leave it out")
        if name is not None and ALIASES.get(name, name) != QUERY:
            raise InputError("an instruction is for queries; leave it out, or ask for the prompt named query")
        return self.prompts.instructed.replace(INSTRUCTION, instruction)

    def _told(self, wish: PromptWish) -> str | None:
        """The instruction of a decoder's template; None: its own."""
        if wish.for_query() == PromptWish(QUERY):
            return None
        if not self.takes_instruction:
            raise InputError(f"{self.model} takes no instruction and no prompt: its template has no place for one")
        if wish.name is None:
            return wish.text if wish.instruction is None else wish.instruction
        if wish.instruction is None:
            return self._named(wish.name, self.query_prompts)
        raise InputError("give prompt_name or instruction, one of the two: both are the template's instruction")


def _check_alone(wish: PromptWish) -> None:
    if wish.text is not None and wish.instruction is not None:
        raise InputError("give prompt or instruction, one of the two: a prompt stands in the instruction's place")


def search_wishes(wish: PromptWish, encoder: Prompting, reranker: Prompting | None) -> tuple[PromptWish, PromptWish]:
    """What a search wants of its bi-encoder and of its cross-encoder (None: it has none).

    A prompt is the bi-encoder's; an instruction goes to each of the two that takes one. Raises InputError where none
    does.
    """
    reads = reranker is not None and reranker.takes_instruction
    if wish.instruction is not None and not reads and not encoder.takes_instruction:
        models = encoder.model if reranker is None else f"{encoder.model} and {reranker.model}"
        raise InputError(f"an instruction is for models that take one, not for {models}; leave it out")
    own = wish if encoder.takes_instruction else PromptWish(wish.name, wish.text)
    return own.for_query(), PromptWish(instruction=wish.instruction if reads else None)

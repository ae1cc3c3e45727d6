"""A field of a config that holds the config of a spec, chosen by its name (no torch)."""

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, PydanticKnownError, core_schema

from mixmae.fields.model import Model, impossible
from mixmae.fields.specs import Specs, UnknownName


def as_written(value: Any) -> Any:
    """A bare name for a mapping that holds nothing else."""
    return {"name": value} if isinstance(value, str) else value


class ByName:
    """A mapping in a config whose entries are models by their name or kind."""

    @classmethod
    def names(cls) -> list[str]:
        """Names that an entry can have without saying its kind."""
        raise NotImplementedError

    @classmethod
    def models(cls, name: str, written: Any) -> Iterator[type[Model]]:
        """Yields the models that the entry of this name can be."""
        raise NotImplementedError


class Found:
    """Marks a field whose model is looked up when it is first needed."""

    def model(self, written: Any) -> type[Model] | None:
        """The model that what is written asks for; None where it names none that there is."""
        raise NotImplementedError

    def models(self) -> Iterator[type[Model]]:
        """Yields the models that the field can hold."""
        raise NotImplementedError

    def validated(self, value: Any) -> Model:
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        dumped = core_schema.plain_serializer_function_ser_schema(
            lambda value, info: value.model_dump(mode=info.mode), info_arg=True
        )
        return core_schema.no_info_plain_validator_function(self.validated, serialization=dumped)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [model.json_schema(handler) for model in self.models()]}


class Deferred(Found):
    """Marks a field of one model, which `look` finds: `Annotated[Model, Deferred(look)]`."""

    def __init__(self, look: Callable[[], type[Model]]):
        self._look = look

    def model(self, written: Any) -> type[Model]:
        return self._look()

    def models(self) -> Iterator[type[Model]]:
        yield self._look()

    def validated(self, value: Any) -> Model:
        return self._look().model_validate(value)


class Chosen(Found):
    """Marks a field whose value is a config of one of `specs`: `Annotated[Model, Chosen(specs)]`.

    key: the field that names the spec. spread: what is written, a mapping by now, as the spec's config takes it; raises
    the error of a config field. A bare name is written for a mapping with nothing else.
    """

    def __init__(
        self,
        specs: Specs[Any],
        key: str = "name",
        spread: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ):
        self.specs, self.key, self._spread = specs, key, spread

    def model(self, written: Any) -> type[Model] | None:
        written = as_written(written)
        try:
            if self._spread is not None and isinstance(written, dict):
                written = self._spread(written)
            spec = self.specs.get(written[self.key])
        except (KeyError, TypeError, UnknownName, PydanticCustomError):
            return None
        return spec.config if spec else None

    def models(self) -> Iterator[type[Model]]:
        for spec in self.specs:
            yield spec.config

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        chosen = super().__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [{"type": "string"}, *chosen["anyOf"]]}

    def validated(self, value: Any) -> Model:
        if isinstance(value, BaseModel):
            if not isinstance(value, Model):
                raise PydanticKnownError("model_attributes_type")
            return value
        written = as_written(value)
        if not isinstance(written, dict):
            raise PydanticKnownError("model_attributes_type")
        if self._spread is not None:
            written = self._spread(written)
        if self.key not in written:
            raise impossible((), f"missing {self.key}; write which one it is")
        try:
            config = self.specs[written[self.key]].config
        except UnknownName as error:
            raise impossible((), str(error)) from None
        validated: Model = config.model_validate(written)
        return validated

"""Lists that come in pages."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from copy import deepcopy
from typing import Generic, Protocol, TypeVar

import grpc.aio

from portico.client.connection import Calls


class PageRequest(Protocol):
    """What every list request has."""

    page_token: str


class Page(Protocol):
    """What every list response has."""

    next_page_token: str


RequestT = TypeVar("RequestT", bound=PageRequest)
PageT = TypeVar("PageT", bound=Page)
ItemT = TypeVar("ItemT")


class Listing(Generic[PageT, ItemT]):
    """A list that was asked for: iterate over all its items, or take one page.

    Nothing is fetched before it is needed, and each iteration starts anew.
    """

    def __init__(
        self,
        fetch: Callable[[str], Awaitable[PageT]],
        items: Callable[[PageT], Iterable[ItemT]],
        page_token: str,
    ) -> None:
        self.items = items
        self._fetch = fetch
        self._page_token = page_token

    async def page(self) -> PageT:
        """The page at the page token, the first by default."""
        return await self._fetch(self._page_token)

    async def pages(self) -> AsyncGenerator[PageT, None]:
        """That page and all after it."""
        page = await self.page()
        yield page
        while page.next_page_token:
            page = await self._fetch(page.next_page_token)
            yield page

    async def __aiter__(self) -> AsyncGenerator[ItemT, None]:
        async for page in self.pages():
            for item in self.items(page):
                yield item


def listing(
    calls: Calls,
    method: "Callable[[], grpc.aio.UnaryUnaryMultiCallable[RequestT, PageT]]",
    request: RequestT,
    items: Callable[[PageT], Iterable[ItemT]],
) -> Listing[PageT, ItemT]:
    """The list that a method pages through."""

    async def fetch(page_token: str) -> PageT:
        # grpc reads a request later than it takes it; iterations must not share one.
        page_request = deepcopy(request)
        page_request.page_token = page_token
        return await calls.unary(method(), page_request)

    return Listing(fetch, items, request.page_token)

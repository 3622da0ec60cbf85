"""Lists that the server returns in pages."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from copy import deepcopy
from typing import Generic, Protocol, TypeVar

import grpc.aio

from portico.client.connection import Calls


class PageRequest(Protocol):
    """The fields that every list request has."""

    page_token: str


class Page(Protocol):
    """The fields that every list response has."""

    next_page_token: str


RequestT = TypeVar("RequestT", bound=PageRequest)
PageT = TypeVar("PageT", bound=Page)
ItemT = TypeVar("ItemT")


class Listing(Generic[PageT, ItemT]):
    """The result of a list call: iterate over all items, or await one page.

    It fetches a page only when the page is needed. Each iteration starts again.
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
        """Returns the page at the page token, the first page by default."""
        return await self._fetch(self._page_token)

    async def pages(self) -> AsyncGenerator[PageT, None]:
        """Iterates over that page and all later pages."""
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
    """Returns the items of a list method, page by page."""

    async def fetch(page_token: str) -> PageT:
        # grpc serializes a request after the call has returned; iterations must not share a request.
        page_request = deepcopy(request)
        page_request.page_token = page_token
        return await calls.unary(method(), page_request)

    return Listing(fetch, items, request.page_token)

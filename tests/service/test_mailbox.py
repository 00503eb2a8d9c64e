"""What a worker is handed by Redis, and how."""

from __future__ import annotations

import asyncio

from service.dispatch.redis import keys
from service.dispatch.redis.fleet import Announcement
from service.dispatch.redis.mailbox import LIGHT, Mailbox
from tests.service.ends import LEASE, MODEL, ends, job


def test_an_idle_worker_is_given_the_upload_with_its_entry(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            mailbox = Mailbox(redis_server.url, "worker", ["echo"], LEASE)
            await mailbox.open()
            await mailbox.announce(Announcement([MODEL], {"inpaint": "echo"}, 0.01))
            await both.api.fleet.refresh()

            async def given() -> list[tuple[str, bytes | None]]:
                entries = await mailbox.wait()
                return [(each.job, each.upload[0][b"image"] if each.upload else None) for each in entries]

            waiting = asyncio.create_task(given())
            await both.api.put("first", job(b"1"), "interactive", 10)
            assert await waiting == [("first", b"1")]
            assert 15_000 < await both.client.pttl(keys.upload("first")) <= 20_000
            assert await both.client.keys("retouch:desk:*") == []

            # The first is still held; what came before the wait is given in the same way.
            await both.api.put("second", job(b"2"), "interactive", 10)
            assert await given() == [("second", b"2")]

            await both.api.put("gone", job(b"3"), "interactive", 10)
            await both.client.unlink(keys.upload("gone"))
            assert await given() == [("gone", None)]

            heavy = b"6" * (LIGHT + 1)
            await both.api.put("heavy", job(heavy), "interactive", 10)
            [entry] = await mailbox.wait()
            assert entry.upload is None
            assert (await mailbox.load(entry))[0][b"image"] == heavy

            await both.api.put("high", job(b"4"), "interactive", 10)
            await both.api.put("low", job(b"5"), "batch", 10)
            high, low = await mailbox.wait()
            assert (high.job, low.job, low.upload) == ("high", "low", None)
            for entry, content in ((high, b"4"), (low, b"5")):
                fields, seconds = await mailbox.load(entry)
                assert fields[b"image"] == content
                assert 15 < seconds <= 20
            await mailbox.close()

    asyncio.run(run())

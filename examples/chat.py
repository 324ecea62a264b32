#!/usr/bin/env python3
"""Asks a gateway, with nothing but Python's own library: chat.py QUESTION [URL]"""

import http.client
import json
import sys
import time
import urllib.error
import urllib.request
import uuid

question = sys.argv[1]
gateway = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8080"
headers = {"Accept": "application/x-ndjson", "Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
body = json.dumps({"message": question, "session_id": "example"}).encode()
turn, seq, shown = None, 0, ""

while True:
    try:
        if turn:
            request = urllib.request.Request(f"{gateway}/v1/turns/{turn}/events?after={seq}", headers=headers)
        else:
            request = urllib.request.Request(f"{gateway}/v1/chat/stream", body, headers)
        # The gateway gives a sign of life every 10 s: silence for 30 is a dead connection.
        with urllib.request.urlopen(request, timeout=30) as response:
            turn = response.headers["Turn-Id"] or turn
            for line in response:
                event = json.loads(line)
                seq = event.get("seq", seq)
                if event["type"] == "delta":
                    shown += event["text"]
                    print(event["text"], end="", flush=True)
                elif event["type"] == "snapshot":  # In place of all there was; a crash may have lost its end.
                    shown = event["message"]["content"]
                    print(f"\n{shown}", end="", flush=True)
                elif event["type"] == "turn.finished":
                    print()
                    sys.exit(0 if event["status"] == "completed" else event["status"])
    except urllib.error.HTTPError as refused:
        if refused.code < 500 and refused.code != 429:
            sys.exit(json.load(refused)["detail"])
    except (OSError, ValueError, http.client.HTTPException):
        pass  # The connection is gone, perhaps in the middle of a line; the turn is not.
    time.sleep(0.5)

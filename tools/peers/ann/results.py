"""What was measured, one JSON object a line in a file that only grows, so that a run goes on where one stopped."""

import json
import os


class Results:
    def __init__(self, path, fresh):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if fresh and os.path.exists(path):
            os.remove(path)
        self.path, self.lines = path, {}
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for line in file:
                    self.keep_line(line)

    def keep_line(self, line):
        try:
            record = json.loads(line)
        except ValueError:
            return  # The last line of a run that was stopped while it wrote.
        self.lines[key(record)] = record

    def add(self, record):
        with open(self.path, "a", encoding="utf-8") as file:
            # A run that was stopped while it wrote has left a line without an end.
            file.write(("\n" if file.tell() and not self.ends_whole() else "") + json.dumps(record) + "\n")
        self.lines[key(record)] = record

    def ends_whole(self):
        with open(self.path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def has(self, record):
        return key(record) in self.lines

    def of(self, **fields):
        """Records with these values."""
        return [
            record for record in self.lines.values() if all(record.get(name) == value for name, value in fields.items())
        ]


NAMES = ("data", "peer", "versions", "threads", "kind", "k", "side", "effort", "round")


def key(record):
    """What tells two measurements apart; all else was measured."""
    return tuple(record.get(name) for name in NAMES)

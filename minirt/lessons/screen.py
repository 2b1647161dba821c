"""The learner's terminal: text in 100 columns at most, a prompt, and colours where they are wanted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap

from minirt.terminal import WIDTH, coloured

PROMPT, MORE, PAUSE = "lab# ", "> ", "(Enter goes on) "
_STYLES = {"title": "1;36", "command": "1", "code": "36", "good": "32", "bad": "31", "aside": "2"}
_UNFINISHED = re.compile(rb"unexpected (end of file|EOF)|here-document")


class Screen:
    """Reads standard input, writes standard output. `ask` raises EOFError when the learner has left."""

    def __init__(self) -> None:
        self._colours = coloured(sys.stdout)
        self._hands = sys.stdin.isatty() and sys.stdout.isatty()
        if self._hands:
            import readline  # noqa: F401  (input() edits lines and remembers them, once it is imported)

    @property
    def width(self) -> int:
        return max(20, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns) - 1)

    def title(self, text: str) -> None:
        self._print(f"\n{self._in('title', text)}\n")

    def paragraph(self, text: str) -> None:
        """Running text behind an empty line, broken to the terminal's width."""
        self._to_a_line_of_its_own()
        self._print()
        lines = textwrap.wrap(text, self.width, break_long_words=False, break_on_hyphens=False)
        self._print(self._coded("\n".join(lines)))

    def aside(self, *texts: str) -> None:
        """What is not the page's own: said to the learner, a paragraph each."""
        wrapped = [textwrap.wrap(text, self.width, break_long_words=False, break_on_hyphens=False) for text in texts]
        self._print(self._in("aside", "\n\n".join("\n".join(lines) for lines in wrapped)))

    def commands(self, commands: list[str]) -> None:
        """What is to be typed, set off from the text."""
        self._print()
        for command in commands:
            self._print(self._in("command", textwrap.indent(command, "    ")))
        self._print()

    def typed(self, command: str) -> None:
        """Show a command as if the learner had typed it at the prompt, in place of their empty line."""
        back = "\x1b[1A\r\x1b[K" if self._hands and self._colours else ""
        self._print(f"{back}{PROMPT}{self._in('command', command.replace(chr(10), chr(10) + MORE))}")

    def verdict(self, text: str, *, good: bool) -> None:
        self._to_a_line_of_its_own()
        self._print(self._in("good", f"✓ {text}") if good else self._in("bad", f"✗ {text}"))

    def ask(self, prompt: str = PROMPT) -> str:
        """A whole command, of as many lines as it takes; ctrl-C drops what was begun. Raises EOFError."""
        while True:
            self._to_a_line_of_its_own()
            try:
                text = self._read(prompt)
                while text.strip() and _unfinished(text):
                    text += f"\n{self._read(MORE)}"
                if "\0" not in text:
                    return text
                self._print("a command cannot hold the character NUL")
            except KeyboardInterrupt:
                self._print("^C")

    def evidence(self, question: str) -> None:
        """What was asked, and says what follows."""
        self._print(f"  {self._in('code', question)} says:")

    def pause(self) -> str:
        """Wait until the text shall go on: nothing, or what the learner has typed instead. Raises EOFError."""
        text = self.ask(PAUSE)
        if not text.strip() and self._hands and self._colours:
            self._print("\x1b[1A\r\x1b[K", end="")
        return text

    def _to_a_line_of_its_own(self) -> None:
        """What follows, also behind an answer that did not end its line: as many blanks as only a fresh line holds."""
        if self._hands and self._colours:
            self._print(f"{' ' * (shutil.get_terminal_size().columns - 1)}\r\x1b[K", end="")

    def _read(self, prompt: str) -> str:
        if self._hands:
            try:
                return input(prompt)
            except EOFError:
                self._print()
                raise
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        if line.strip():
            self._print(f"{prompt}{line}", end="")
        return line

    def _print(self, text: str = "", end: str = "\n") -> None:
        # What was typed may be no text. Flushed before the lab's programs write to the same terminal.
        print(text.encode(errors="replace").decode(), end=end, flush=True)

    def _in(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colours else text

    def _coded(self, text: str) -> str:
        if not self._colours:
            return text
        return re.sub(r"`([^`]+)`", lambda found: self._in("code", found[1]), text)


def _unfinished(text: str) -> bool:
    """Whether bash would wait for more: an open quote, a loop without its end, a here-document."""
    words, env = ["bash", "-n"], os.environ | {"LC_ALL": "C"}  # -n: it is read, not run
    done = subprocess.run(words, input=os.fsencode(text), stderr=subprocess.PIPE, env=env, check=False)  # noqa: S603
    return _UNFINISHED.search(done.stderr) is not None

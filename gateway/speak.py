"""One utterance through pyttsx3 (espeak-ng on Linux), in a process of its own: `python -m gateway.speak VOICE RATE FILE`.

The words come on standard input. `runAndWait()` of pyttsx3 2.99 does not wait, several files from one process lose the
first, and a second thread crashes the interpreter; so this process speaks once, waits for the end, and goes.
"""

import os
import sys
import threading

import pyttsx3

# A sentence is synthesised in 50 ms; this long has only a hung library.
FINISHED_TIMEOUT_S = 15


def main(voice: str, rate: int, file: str) -> int:
    """Speak standard input into a wave file; 0 when it is complete."""
    finished = threading.Event()
    engine = pyttsx3.init("espeak")
    engine.connect("finished-utterance", lambda name, completed: finished.set())
    engine.setProperty("voice", voice)
    engine.setProperty("rate", rate)
    engine.save_to_file(sys.stdin.read(), file)
    engine.runAndWait()
    return 0 if finished.wait(FINISHED_TIMEOUT_S) else 1


if __name__ == "__main__":
    code = main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    sys.stderr.flush()
    # The library's thread may still be playing; an ordinary exit would wait for it, or crash in it.
    os._exit(code)

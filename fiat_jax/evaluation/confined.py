"""Runs a program that a model wrote: a script of the standard library alone, for a process of its own.

It gives up what the program must not have, for good, and only then runs it. Limits hold processor time, memory and
files. A seccomp filter lets through the system calls that Python needs to compute; those that start processes
or threads, reach a network, write, remove or rename files, or signal others end the program, and any other is told not
to exist. Opening a file to read is let through: what is read can go nowhere.
"""

import ctypes
import json
import os
import platform
import resource
import struct
import sys

REFUSED = 77  # the exit code where there is no confining
LOAD, JUMP_EQUAL, JUMP_ABOVE, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06  # of classic BPF
ALLOW, KILL, NO_SUCH_CALL = 0x7FFF0000, 0x80000000, 0x00050000 | 38
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in what a filter sees of a call
COPIES = (0, 1, 2, 3, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
TERMINAL = (0x5401, 0x5450, 0x5451)  # TCGETS, FIONCLEX, FIOCLEX
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2  # of prctl

# Numbers of system calls. computes: reading, memory, time, signals to oneself, waiting, ending. harms: processes,
# threads, sockets, files written, removed, renamed, their rights, limits, mounts. opens: those that open a file, and
# which argument says how. asks: those that do much else too, and what alone they may be asked for: fcntl to copy a
# descriptor and to read its flags (with F_SETOWN and F_SETSIG it signals others), ioctl to tell a terminal from a file
# (with TIOCSTI it types).
MACHINES = {
  "x86_64": {
    "architecture": 0xC000003E,
    "computes": (
      "0 1 3 4 5 6 7 8 9 10 11 12 13 14 15 17 19 20 21 23 24 25 28 32 35 39 60 63 78 79 89 96 97 98 "
      "99 100 102 104 107 108 110 131 158 186 201 202 204 217 218 228 229 230 231 262 267 269 270 271 273 "
      "293 318 324 332 334 439"
    ),
    "harms": (
      "41 42 43 44 49 50 53 56 57 58 59 62 76 77 82 83 84 85 86 87 88 90 91 92 93 101 133 160 161 165 166 "
      "200 258 259 260 263 264 265 266 268 272 288 302 308 316 319 322 425 435"
    ),
    "opens": ((2, 1), (257, 2)),
    "asks": ((72, COPIES), (16, TERMINAL)),
  },
  "aarch64": {
    "architecture": 0xC00000B7,
    "computes": (
      "17 23 48 57 59 61 62 63 64 65 66 67 72 73 78 79 80 93 94 96 98 99 101 113 114 115 123 124 132 "
      "134 135 139 153 160 163 165 169 172 173 174 175 176 177 178 179 214 215 216 222 226 233 278 283 291 "
      "293 439"
    ),
    "harms": (
      "33 34 35 36 37 38 39 40 45 46 51 52 53 54 55 97 117 129 130 164 198 199 200 201 202 203 206 220 221 "
      "242 261 268 276 279 281 425 435"
    ),
    "opens": ((56, 2),),
    "asks": ((25, COPIES), (29, TERMINAL)),
  },
}


def seccomp_filter(machine: str) -> list[tuple[int, int, int, int]]:
  """The filter as instructions: code, how many to skip where it is true and where not, operand."""
  known = MACHINES[machine]
  made = [(LOAD, 0, 0, ARCHITECTURE), (JUMP_EQUAL, 1, 0, known["architecture"]), (RETURN, 0, 0, KILL)]
  made += [(LOAD, 0, 0, NUMBER), (JUMP_ABOVE, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]  # another ABI's numbers
  for number, argument in known["opens"]:
    how = [(LOAD, 0, 0, ARGUMENTS + 8 * argument), (AND, 0, 0, WRITES), (JUMP_EQUAL, 0, 1, 0)]
    made += [(JUMP_EQUAL, 0, 5, number), *how, (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, KILL)]
  for number, arguments in known["asks"]:
    made += [(JUMP_EQUAL, 0, 2 * len(arguments) + 2, number), (LOAD, 0, 0, ARGUMENTS + 8)]
    for argument in arguments:
      made += [(JUMP_EQUAL, 0, 1, argument), (RETURN, 0, 0, ALLOW)]
    made += [(RETURN, 0, 0, KILL)]
  for action, numbers in ((ALLOW, known["computes"]), (KILL, known["harms"])):
    for number in map(int, numbers.split()):
      made += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, action)]
  return [*made, (RETURN, 0, 0, NO_SUCH_CALL)]


def confine() -> bool:
  """Whether this process now has the filter, which nothing takes off again."""
  machine = platform.machine()
  if sys.platform != "linux" or machine not in MACHINES:
    return False
  instructions = seccomp_filter(machine)
  code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in instructions))
  program = ctypes.create_string_buffer(struct.pack("HP", len(instructions), ctypes.addressof(code)))
  call = ctypes.CDLL(None, use_errno=True).prctl
  call.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
  alone = call(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
  return alone and call(SET_SECCOMP, FILTER, ctypes.addressof(program), 0, 0) == 0


def main() -> int:
  given = json.load(sys.stdin)
  answer = os.dup(1)
  nowhere = os.open(os.devnull, os.O_RDWR)
  for standard in (0, 1, 2):
    os.dup2(nowhere, standard)
  limits = {resource.RLIMIT_CPU: given["seconds"], resource.RLIMIT_AS: given["bytes"], resource.RLIMIT_NOFILE: 32}
  limits |= {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0, resource.RLIMIT_NPROC: 0}
  for limit, value in limits.items():
    resource.setrlimit(limit, (value, value))
  if not confine():
    return REFUSED
  exec(compile(given["program"], "<program>", "exec"), {"__name__": "__main__"})
  os.write(answer, given["word"].encode())
  return 0


if __name__ == "__main__":
  code = main()
  os._exit(code)

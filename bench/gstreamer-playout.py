"""
GStreamer's rtpjitterbuffer, the real element, on a trace of arrivals in simulated time (GstTestClock): what it gives on, when.

stdin    one JSON object: {"latencyMs": 60, "arrivals": [[number, arrivedMs], …]} in the order of arrival, 20 ms packets
stdout   one JSON object: {"version": "…", "pushed": [[number, pushedMs, ptsMs], …], "lost": n, "unsettled": n}

`pushedMs` is the clock's time at which the element gave the packet on, `ptsMs` the running time that it stamped it with: a sink
plays it at ptsMs + latencyMs (GStreamer's rule of latency). `unsettled` counts steps at which a thread of the element did not do
within 2 s what was waited for; above 0 the times are doubtful.

The clock stands while the element's two threads work: after each arrival this waits until all that is in sequence has come out,
and, where a packet is missing, until the element waits for its deadline; the clock then goes on to the next arrival or deadline.
"""
import json
import struct
import sys
import threading
import time

import gi

gi.require_version('Gst', '1.0')
gi.require_version('GstCheck', '1.0')
from gi.repository import Gst, GstCheck  # noqa: E402

MS = 1_000_000
PACKET_TICKS = 960
SETTLES_WITHIN_S = 2
# For what a thread that has just woken gives to the other.
GRACE_S = 0.003
FIRST_SEQUENCE = 1000

Gst.init(None)
order = json.load(sys.stdin)
latency_ms = order['latencyMs']

clock = GstCheck.TestClock.new_with_start_time(0)
element = Gst.ElementFactory.make('rtpjitterbuffer')
if element is None:
    sys.exit('there is no rtpjitterbuffer: gstreamer1.0-plugins-good is missing')
element.set_property('latency', latency_ms)
element.set_property('do-lost', True)
element.set_clock(clock)
element.set_base_time(0)

changed = threading.Condition()
held = set()
pushed = []
lost = 0
next_number = 0


def chain(_pad, _parent, buffer):
    global next_number
    header = buffer.extract_dup(0, 12)
    number = struct.unpack('>I', header[4:8])[0] // PACKET_TICKS
    with changed:
        pushed.append([number, clock.get_time() / MS, buffer.pts / MS])
        next_number = number + 1
        changed.notify()
    return Gst.FlowReturn.OK


def event(_pad, _parent, said):
    global next_number, lost
    structure = said.get_structure()
    if said.type == Gst.EventType.CUSTOM_DOWNSTREAM and structure.get_name() == 'GstRTPPacketLost':
        sequence = structure.get_value('seqnum')
        with changed:
            number = next_number + ((sequence - FIRST_SEQUENCE - next_number) & 0xFFFF)
            # One event may stand for several packets that are too late already, and its duration for a step of the clock too.
            following = min([one for one in list(held) if one > number], default=number + 1)
            missing = min(max(1, round((structure.get_value('duration') or 0) / (20 * MS))), following - number)
            lost += missing
            next_number = number + missing
            changed.notify()
    return True


sink = Gst.Pad.new('sink', Gst.PadDirection.SINK)
sink.set_chain_function_full(chain)
sink.set_event_function_full(event)
sink.set_active(True)
element.get_static_pad('src').link(sink)
source = Gst.Pad.new('src', Gst.PadDirection.SRC)
source.set_active(True)
source.link(element.get_static_pad('sink'))
element.set_state(Gst.State.PLAYING)

caps = 'application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=96'
segment = Gst.Segment()
segment.init(Gst.Format.TIME)
for one in (Gst.Event.new_stream_start('bench'), Gst.Event.new_caps(Gst.Caps.from_string(caps)), Gst.Event.new_segment(segment)):
    source.push_event(one)

unsettled = 0


def wait_for(done, within_s=SETTLES_WITHIN_S):
    """Waits, in real time, until `done()`, which is asked with the lock held. Returns whether it came true."""
    with changed:
        return changed.wait_for(done, within_s)


def settle_output():
    """What is in sequence comes out at once; the very first packet, and what comes meanwhile, at its deadline."""
    global unsettled
    if pushed and not wait_for(lambda: next_number not in held):
        unsettled += 1
    forget_what_is_out()


def forget_what_is_out():
    held.difference_update([number for number in held if pushed and number < next_number])


def settle_timer():
    """A packet is missing before one that is held: the element waits for that one's deadline."""
    global unsettled
    until = time.monotonic() + SETTLES_WITHIN_S
    while held and clock.peek_id_count() == 0:
        forget_what_is_out()
        if time.monotonic() > until:
            unsettled += 1
            return
        time.sleep(0)


def settle_deadline(before):
    """A deadline has come: something comes out, or it was of a packet that has come since, or the element waits for another."""
    until = time.monotonic() + SETTLES_WITHIN_S
    while time.monotonic() < until:
        if wait_for(lambda: (next_number, len(pushed)) != before, GRACE_S):
            return
        if clock.peek_id_count() > 0 or not held:
            return


def advance(to_ms):
    """Runs the deadlines that fall due until then."""
    to = round(to_ms * MS)
    while True:
        settle_timer()
        due = clock.get_next_entry_time()
        if due == Gst.CLOCK_TIME_NONE or due > to:
            break
        before = (next_number, len(pushed))
        if due > clock.get_time():
            clock.set_time(due)
        if clock.process_next_clock_id() is not None:
            settle_deadline(before)
        settle_output()
    clock.set_time(max(to, clock.get_time()))


for number, arrived_ms in order['arrivals']:
    advance(arrived_ms)
    header = struct.pack('>BBHII', 0x80, 96, (FIRST_SEQUENCE + number) & 0xFFFF, number * PACKET_TICKS, 1)
    buffer = Gst.Buffer.new_wrapped(header + b'\0' * 60)
    buffer.pts = buffer.dts = clock.get_time()
    if number >= next_number:
        held.add(number)
    source.push(buffer)
    settle_output()
advance(order['arrivals'][-1][1] + 2 * latency_ms + 100)
element.set_state(Gst.State.NULL)
json.dump({'version': Gst.version_string(), 'pushed': pushed, 'lost': lost, 'unsettled': unsettled}, sys.stdout)

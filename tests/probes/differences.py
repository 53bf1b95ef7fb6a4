# SPDX-License-Identifier: MIT
"""Where a probe's outcome on hoop is another than on asyncio, on purpose: why, and exactly what."""

_BY_REASON: dict[str, dict[str, list[str]]] = {
    "copied when written, so any layout will do; asyncio ends the connection": {
        "transport.write-view-strided": [
            "connection_made",
            "returned None",
            "connection_lost None",
            "sent b'ace'",
            "returned None",
        ],
        "transport.writelines_of_one-view-strided": [
            "connection_made",
            "returned None",
            "connection_lost None",
            "sent b'ace'",
            "returned None",
        ],
        "transport.writelines_of_one-view-of-int": [
            "connection_made",
            "returned None",
            "connection_lost None",
            "sent b'\\x01\\x00\\x00\\x00\\x02\\x00\\x00\\x00'",
            "returned None",
        ],
    },
    "what is no iterable is refused, false or not": {
        "transport.writelines-none": [
            "connection_made",
            "raised TypeError('NoneType' object is not iterable)",
            "connection_lost None",
            "sent b''",
            "returned None",
        ],
    },
    "refused in other words": {
        "transport.limits-text": [
            "connection_made",
            "raised TypeError('str' object cannot be interpreted as an integer)",
            "connection_lost None",
            "sent b''",
            "returned None",
        ],
        "loop.call_later-delay-text": ["raised TypeError(must be real number, not str)"],
        "loop.handles": [
            "False <Handle print()>",
            "True <Handle cancelled>",
            "True",
            "False <TimerHandle ",
            "True <TimerHandle cancelled ",
            "True",
            "True True False False False",
            "True",
            "raised TypeError('<' not supported between instances of 'hoop._hoop.TimerHandle' and 'int')",
            "False",
        ],
    },
    "limits are whole numbers: fractions are rounded down": {
        "transport.limits_of_fractions": [
            "connection_made",
            "returned None",
            "[2, 10]",
            "returned None",
            "[0, 10]",
            "connection_lost None",
        ],
    },
    "resume_reading() after the end of the stream doesn't report the end again": {
        "transport.peers_eof_kept": [
            "connection_made",
            "eof_received",
            "False True",
            "returned None",
            "False",
            "returned None",
            "True",
            "b'answer'",
            "connection_lost None",
        ],
    },
    "get_buffer() is to blame for what can't be received into": {
        "transport.get_buffer-none": [
            "connection_made",
            "get_buffer -1",
            "handler {message: 'Fatal error: protocol.get_buffer() call failed.', exception: TypeError(a bytes-like object is required, not 'NoneType'), transport: <Transport>, protocol: <Buffered>}",
            "connection_lost TypeError(a bytes-like object is required, not 'NoneType')",
            "returned None",
        ],
        "transport.get_buffer-text": [
            "connection_made",
            "get_buffer -1",
            "handler {message: 'Fatal error: protocol.get_buffer() call failed.', exception: TypeError(a bytes-like object is required, not 'str'), transport: <Transport>, protocol: <Buffered>}",
            "connection_lost TypeError(a bytes-like object is required, not 'str')",
            "returned None",
        ],
        "transport.get_buffer-read-only": [
            "connection_made",
            "get_buffer -1",
            "handler {message: 'Fatal error: protocol.get_buffer() call failed.', exception: BufferError(Object is not writable.), transport: <Transport>, protocol: <Buffered>}",
            "connection_lost BufferError(Object is not writable.)",
            "returned None",
        ],
        "transport.get_buffer-read-only-view": [
            "connection_made",
            "get_buffer -1",
            "handler {message: 'Fatal error: protocol.get_buffer() call failed.', exception: BufferError(memoryview: underlying buffer is not writable), transport: <Transport>, protocol: <Buffered>}",
            "connection_lost BufferError(memoryview: underlying buffer is not writable)",
            "returned None",
        ],
        "transport.get_buffer-view-strided": [
            "connection_made",
            "get_buffer -1",
            "handler {message: 'Fatal error: protocol.get_buffer() call failed.', exception: BufferError(memoryview: underlying buffer is not C-contiguous), transport: <Transport>, protocol: <Buffered>}",
            "connection_lost BufferError(memoryview: underlying buffer is not C-contiguous)",
            "returned None",
        ],
    },
    "a buffer that came back full is followed by another read at once": {
        "transport.get_buffer-view": [
            "connection_made",
            "get_buffer -1",
            "buffer_updated 10",
            "get_buffer -1",
            "get_buffer -1",
            "eof_received",
            "connection_lost None",
            "returned None",
        ],
        "transport.get_buffer-exact": [
            "connection_made",
            "get_buffer -1",
            "buffer_updated 10",
            "get_buffer -1",
            "get_buffer -1",
            "eof_received",
            "connection_lost None",
            "returned None",
        ],
    },
    "one context for all of a connection's callbacks": {
        "transport.context_of_flow_control": [
            "connection_made",
            "pause_writing",
            "resume_writing",
            "['connecting', 'connecting']",
            "connection_lost None",
        ],
    },
    "the number of a closed descriptor may be somebody else's by now": {
        "transport.repr_of_a_transport": [
            "connection_made",
            "<StreamTransport fd=# read=polling write=<idle, bufsize=0>>",
            "paused",
            "pause_writing",
            "<StreamTransport fd=# ",
            "<StreamTransport closing fd=# ",
            "connection_lost None",
            "<StreamTransport closed>",
        ],
    },
    "no handle runs what a datagram transport receives: the report names the transport": {
        "io.datagram_protocol_that_raises": [
            "connection_made",
            "datagram_received b'x' ['127.0.0.1', #]",
            "handler {message: 'Exception in callback protocol.datagram_received()', exception: ValueError(datagram), transport: <Transport>, protocol: <Datagrams>}",
            "False",
            "connection_lost None",
        ],
    },
    "a wrong argument is a TypeError, as on other transports": {
        "io.pipe_of_text": [
            "connection_made",
            "raised TypeError(data argument must be a bytes-like object, not 'str')",
            "connection_lost None",
        ],
    },
    "the exception handler hears of it, and the connection is closed": {
        "endings.factory_returns_none": [
            "handler {message: 'Exception in callback connection_made', exception: AttributeError('NoneType' object has no attribute 'connection_made')}",
            "handler {message: 'Fatal error: protocol.data_received() call failed.', exception: AttributeError('NoneType' object has no attribute 'data_received'), transport: <Transport>, protocol: None}",
            "handler {message: 'Exception in callback connection_lost', exception: AttributeError('NoneType' object has no attribute 'connection_lost')}",
        ],
    },
    "no transport is made that nobody could close": {
        "endings.client_factory_returns_none": [
            "raised AttributeError('NoneType' object has no attribute 'connection_made')"
        ],
    },
    "the descriptor is closed although the loop is": {
        "endings.loop_closed_with_a_transport_open": [
            "connection_made",
            "made",
            "returned None",
            "False",
            "returned 0",
            "raised RuntimeError(Event loop is closed)",
            "['connection_made']",
            "warning ResourceWarning unclosed <socket.socket fd=#, family=2, type=1, proto=6, laddr=('127.0.0.1', #)>",
        ],
    },
}

DIFFERENCES = {
    name: (reason, notes) for reason, probes in _BY_REASON.items() for name, notes in probes.items()
}

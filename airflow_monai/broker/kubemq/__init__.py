"""KubeMQ: a queue for each topic, of which messages are taken one by one, each in a transaction of its own.

    <topic>                a queue; all gateways share its messages
    <topic>-dead-letter    a queue of those that can never be used, with the reason
    <topic>-deliveries     notes of gateways, by which those that kill them are found

It is spoken to by its own protocol over gRPC, not by its REST interface: that takes a message out of its queue as it is
given, and its other way, by web socket, takes it out before it is put back when the receiver has died. In a transaction
a message stays in its queue until it is acknowledged, and comes again when the stream that holds it ends.

- One message a transaction: with room for more, the server goes on giving it messages that nobody sees until it ends.
- One transaction a stream: the server takes up one request of a stream after the other, and a request for a message
  waits until there is one; an acknowledgement would wait behind it.
- An acknowledgement is not answered where all is well. So the next request of the stream is one that always is, and
  when its answer comes first, the acknowledgement was good.

A message that only tells something goes to the events store, which keeps it for as many as want to know; in a queue it
would wait for one.
"""

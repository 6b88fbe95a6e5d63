//! From a packet to its reply. Pure, and safe for any bytes: it reads what strangers send.

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
    serialize::binary::{BinEncodable as _, BinEncoder},
};

use super::zone::{Answer, Zone, labels_below};

/// Largest reply over UDP that is ever sent: what passes every path unfragmented (RFC 9715).
const UDP_BYTES_MAX: u16 = 1232;
/// Largest reply over UDP to a client that says nothing of its own (RFC 1035 section 4.2.1).
const UDP_BYTES_PLAIN: u16 = 512;
/// Header of a message (RFC 1035 section 4.1.1).
const HEADER_BYTES: usize = 12;
/// Additional records that a query may carry: EDNS, a signature, and some to spare.
const QUERY_ADDITIONALS_MAX: u16 = 4;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram: short replies.
    Udp,
    /// A stream: long ones too.
    Tcp,
}

/// Replies to a packet; `None` if it is no query that could be replied to. `apex` is the
/// environment's domain, `zone` its names once any are known, `turn` as in [`Zone::answer`].
#[must_use]
pub fn reply(
    apex: &Name,
    zone: Option<&Zone>,
    packet: &[u8],
    transport: Transport,
    turn: usize,
) -> Option<Vec<u8>> {
    match hear(apex, packet, transport) {
        Heard::Nothing => None,
        Heard::Settled(reply) => Some(reply),
        Heard::Question(question) => question.answer_from_zone(zone, turn),
    }
}

/// What a packet is.
#[derive(Debug)]
pub(super) enum Heard {
    /// No query that could be replied to.
    Nothing,
    /// One whose reply depends on no names.
    Settled(Vec<u8>),
    /// A question after one of the environment's names.
    Question(Box<Question>),
}

/// A question after one of the environment's names, with the reply that it gets, as far as that is
/// settled.
#[derive(Debug)]
pub(super) struct Question {
    /// What is asked.
    pub(super) query: Query,
    response: Message,
    limit: u16,
    transport: Transport,
}

/// Reads a packet.
pub(super) fn hear(apex: &Name, packet: &[u8], transport: Transport) -> Heard {
    let settled = |reply: Option<Vec<u8>>| reply.map_or(Heard::Nothing, Heard::Settled);
    let Some(counts) = Counts::read(packet).filter(|counts| !counts.is_response) else {
        return Heard::Nothing;
    };
    if !counts.is_plain_query() {
        return settled(refusal(packet, ResponseCode::FormErr));
    }
    let Ok(query) = Message::from_vec(packet) else {
        return settled(refusal(packet, ResponseCode::FormErr));
    };
    let limit = match (transport, &query.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => UDP_BYTES_PLAIN,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX),
    };
    match begin(apex, &query) {
        (response, None) => settled(encode(response, limit, transport)),
        (response, Some(query)) => Heard::Question(Box::new(Question {
            query,
            response,
            limit,
            transport,
        })),
    }
}

/// The reply to a query, with the question that is still to be answered in it.
fn begin(apex: &Name, query: &Message) -> (Message, Option<Query>) {
    let mut response = empty(&query.metadata);
    response.queries.clone_from(&query.queries);
    if let Some(edns) = &query.edns {
        let mut own = Edns::new();
        own.set_max_payload(UDP_BYTES_MAX).set_version(0);
        response.edns = Some(own);
        if edns.version() > 0 {
            response.metadata.response_code = ResponseCode::BADVERS;
            return (response, None);
        }
    }
    if query.metadata.op_code != OpCode::Query {
        response.metadata.response_code = ResponseCode::NotImp;
        return (response, None);
    }
    // That there is exactly one was seen from the counts.
    let Some(question) = query.queries.first() else {
        response.metadata.response_code = ResponseCode::FormErr;
        return (response, None);
    };
    let ours = labels_below(apex, question.name()).is_some();
    if !ours || !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        response.metadata.response_code = ResponseCode::Refused;
        return (response, None);
    }
    (response, Some(question.clone()))
}

impl Question {
    /// The reply out of the names of a snapshot.
    pub(super) fn answer_from_zone(mut self, zone: Option<&Zone>, turn: usize) -> Option<Vec<u8>> {
        let Some(zone) = zone else {
            // No snapshot came yet: that is not the same as "no such name".
            return self.failed();
        };
        let (name, kind) = (self.query.name(), self.query.query_type());
        let answer = zone.answer(name, kind, turn);
        fill(&mut self.response, answer);
        self.encoded()
    }

    /// The reply out of another server's.
    pub(super) fn answer_as(mut self, answer: &Message, turn: usize) -> Option<Vec<u8>> {
        let response = &mut self.response;
        response.metadata.response_code = answer.metadata.response_code;
        response.metadata.authoritative = answer.metadata.authoritative;
        response.answers.clone_from(&answer.answers);
        response.authorities.clone_from(&answer.authorities);
        response.additionals.clone_from(&answer.additionals);
        // It may have been asked for in another spelling. Names compare without regard to that.
        for record in &mut response.answers {
            if record.name == *self.query.name() {
                record.name = self.query.name().clone();
            }
        }
        // An alias comes before what it stands for (RFC 1034 section 4.3.2), or the C library loses it.
        let mut answers = response.answers.iter();
        if answers.all(|record| record.record_type() != RecordType::CNAME) {
            let count = response.answers.len().max(1);
            response.answers.rotate_left(turn % count);
        }
        self.encoded()
    }

    /// The reply where nobody knows.
    pub(super) fn failed(mut self) -> Option<Vec<u8>> {
        self.response.metadata.response_code = ResponseCode::ServFail;
        self.encoded()
    }

    fn encoded(self) -> Option<Vec<u8>> {
        encode(self.response, self.limit, self.transport)
    }
}

fn fill(response: &mut Message, answer: Answer) {
    response.metadata.authoritative = true;
    match answer {
        Answer::Refused => {
            response.metadata.authoritative = false;
            response.metadata.response_code = ResponseCode::Refused;
        }
        Answer::NoSuchName { soa } => {
            response.metadata.response_code = ResponseCode::NXDomain;
            response.authorities.push(*soa);
        }
        Answer::NoData { soa } => response.authorities.push(*soa),
        Answer::Found {
            answers,
            additionals,
        } => {
            response.answers = answers;
            response.additionals = additionals;
        }
    }
}

fn empty(query: &Metadata) -> Message {
    let mut response = Message::new(query.id, MessageType::Response, query.op_code);
    response.metadata = Metadata::response_from_request(query);
    response
}

/// A refusal of what could not be read beyond its header.
fn refusal(packet: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    let id = u16::from_be_bytes([*packet.first()?, *packet.get(1)?]);
    let mut response = Message::new(id, MessageType::Response, OpCode::Query);
    response.metadata.response_code = code;
    // No answers: nothing is ever cut of it.
    encode(response, UDP_BYTES_PLAIN, Transport::Udp)
}

/// Writes a reply within `limit`. Additional records are left out first: without them the reply
/// is still whole. Answers go last. A datagram then says that it is cut, so that the client asks over
/// a stream (RFC 2181 section 9). Over a stream that would leave nothing to do but fail, and
/// systemd-resolved fails; the answers that fit are as good as all of them, and which those are
/// changes with each query.
fn encode(mut response: Message, limit: u16, transport: Transport) -> Option<Vec<u8>> {
    let whole = write(&response, u16::MAX)?;
    if fits(&whole, &response, limit) {
        return Some(whole);
    }
    response.additionals.clear();
    let mut written = write(&response, u16::MAX)?;
    if !fits(&written, &response, limit) {
        // The writer leaves out what does not fit, EDNS too, and counts what did.
        let cut = write(&response, limit)?;
        let fitted = Counts::read(&cut)?.answers;
        response.answers.truncate(usize::from(fitted));
        response.metadata.truncation = transport == Transport::Udp;
        written = write(&response, u16::MAX)?;
    }
    while !fits(&written, &response, limit) {
        response.answers.pop()?;
        written = write(&response, u16::MAX)?;
    }
    Some(written)
}

/// Whether `written` is all of `response` and short enough.
fn fits(written: &[u8], response: &Message, limit: u16) -> bool {
    let edns = u16::from(response.edns.is_some());
    let additionals = count(&response.additionals).saturating_add(edns);
    written.len() <= usize::from(limit)
        && Counts::read(written).is_some_and(|counts| {
            counts.answers == count(&response.answers) && counts.additionals == additionals
        })
}

fn count<T>(list: &[T]) -> u16 {
    u16::try_from(list.len()).unwrap_or(u16::MAX)
}

fn write(response: &Message, limit: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::from(UDP_BYTES_PLAIN));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    match response.emit(&mut encoder) {
        Ok(()) => Some(bytes),
        Err(error) => {
            tracing::warn!(%error, "could not write a reply");
            None
        }
    }
}

/// The counts of a header, read before anything is believed of them.
struct Counts {
    is_response: bool,
    queries: u16,
    answers: u16,
    authorities: u16,
    additionals: u16,
}

impl Counts {
    fn read(packet: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = packet.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Some(Self {
            is_response: header[2] & 0x80 != 0,
            queries: word(4),
            answers: word(6),
            authorities: word(8),
            additionals: word(10),
        })
    }

    fn is_plain_query(&self) -> bool {
        self.queries == 1
            && self.answers == 0
            && self.authorities == 0
            && self.additionals <= QUERY_ADDITIONALS_MAX
    }
}

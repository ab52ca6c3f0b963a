//! What two processes say to one another while the one takes the place of the other: words as JSON over a pair of Unix sockets, and
//! descriptors beside them (SCM_RIGHTS, unix(7)).
//!
//! Owns the form of it: [`PROTOCOL`] changes when a word means something else than before. A field that the other side does not
//! have is as its default says, one that this side does not know is not read, and so is a word.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
    recvmsg, sendmsg, shutdown, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::health::EndpointRecord;

/// The version of all this.
pub(super) const PROTOCOL: u32 = 1;

/// Bytes of a packet: each is one piece of memory in the kernel.
const PACKET: usize = 32 * 1024;
/// Descriptors of a packet: the kernel takes 253.
const DESCRIPTORS: usize = 64;
/// Bytes of a word, which nobody who means well reaches.
const MOST: usize = 64 << 20;

/// The first byte of a packet: whether it is the last one of its word.
const MORE: u8 = b'+';
const LAST: u8 = b'.';

/// What one side says to the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub(super) enum Word {
    /// The predecessor: this is what there is. Its descriptors are those of [`State::sockets`].
    State(Box<State>),
    /// The successor: everything that can fail has been done.
    Prepared,
    /// The predecessor: it is to serve from now on.
    TakeOver(Takeover),
    /// The successor: it serves.
    Serving(Serving),
    /// The predecessor: it accepts nobody any more, and the service manager knows of it.
    Lead,
    /// The predecessor: what it has counted.
    Counts(Counted),
    /// The successor: it does not serve, because of this.
    Refused {
        /// A line for each thing that is wrong.
        lines: Vec<String>,
    },
    /// One of a later version.
    #[serde(other)]
    Unknown,
}

/// What the predecessor has.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// Its [`PROTOCOL`].
    pub(super) protocol: u32,
    pub(super) version: String,
    /// Of its snapshot.
    pub(super) generation: u64,
    /// What each of the descriptors is, in their order.
    pub(super) sockets: Vec<Handed>,
    /// What its health thread knows.
    pub(super) endpoints: Vec<EndpointRecord>,
}

/// One descriptor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Handed {
    pub(super) role: Role,
    /// The address or the path by which it was configured; where its own leads, for the control socket.
    pub(super) name: String,
    /// Of a worker's socket: the number of its listener, and of the worker.
    #[serde(default)]
    pub(super) listener: u32,
    #[serde(default)]
    pub(super) worker: usize,
}

/// What a descriptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// A worker's listening socket.
    Listener,
    /// That of the admin listener.
    Admin,
    /// The control socket.
    Control,
    /// The access log.
    Log,
    /// One of a later version.
    #[serde(other)]
    Unknown,
}

/// How far the predecessor has come when it hands over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Takeover {
    /// The ticket of the next request.
    pub(super) cursor: usize,
    pub(super) counts: Counted,
}

/// What a process has counted, and those before it, by the keys of the counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counted {
    pub(super) counters: BTreeMap<String, u64>,
    /// Of each endpoint.
    pub(super) endpoints: Vec<EndpointTally>,
    pub(super) panics: u64,
}

/// What was counted of one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct EndpointTally {
    pub(super) target: String,
    pub(super) address: String,
    pub(super) counts: BTreeMap<String, u64>,
}

/// What the successor has taken over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Serving {
    pub(super) generation: u64,
    /// The listeners that it has sockets of, by their numbers.
    pub(super) listeners: Vec<u32>,
    /// Whether it has the admin listener.
    pub(super) admin: bool,
    /// Whether it has the control socket.
    pub(super) control: bool,
}

/// One end.
#[derive(Debug)]
pub(super) struct Pair(OwnedFd);

impl Pair {
    /// Both ends.
    ///
    /// # Errors
    /// No descriptor or memory is left.
    pub(super) fn new() -> io::Result<(Pair, OwnedFd)> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
        Ok((Pair(ours), theirs))
    }

    /// The end that a process was started with.
    pub(super) fn of(end: OwnedFd) -> Pair {
        Pair(end)
    }

    /// Says something, with the descriptors that belong to it, waiting at most this long for the other side to read; `None` is
    /// not at all.
    ///
    /// # Errors
    /// The other side has gone, or does not read.
    pub(super) fn say(
        &self,
        word: &Word,
        descriptors: &[BorrowedFd<'_>],
        patience: Option<Duration>,
    ) -> io::Result<()> {
        let text = serde_json::to_vec(word)?;
        let mut flags = SendFlags::NOSIGNAL;
        match patience {
            Some(_) => set_socket_timeout(&self.0, Timeout::Send, patience)?,
            None => flags |= SendFlags::DONTWAIT,
        }
        let mut texts = text.chunks(PACKET).peekable();
        let mut groups = descriptors.chunks(DESCRIPTORS).peekable();
        while texts.peek().is_some() || groups.peek().is_some() {
            let (text, group) = (texts.next().unwrap_or_default(), groups.next());
            let is_last = texts.peek().is_none() && groups.peek().is_none();
            let begin = [if is_last { LAST } else { MORE }];
            let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut beside = SendAncillaryBuffer::new(&mut room);
            if let Some(group) = group {
                // There is room for as many.
                let _ = beside.push(SendAncillaryMessage::ScmRights(group));
            }
            let packet = [IoSlice::new(&begin), IoSlice::new(text)];
            rustix::io::retry_on_intr(|| sendmsg(&self.0, &packet, &mut beside, flags))?;
        }
        Ok(())
    }

    /// What the other side says next, and the descriptors that belong to it, after at most this long; `None` when it has gone.
    ///
    /// # Errors
    /// It is silent ([`ErrorKind::WouldBlock`]), what it says is none of [`Word`], or its descriptors find no room here.
    pub(super) fn hear(
        &self,
        patience: Option<Duration>,
    ) -> io::Result<Option<(Word, Vec<OwnedFd>)>> {
        // Zero would be forever.
        let patience = patience.map(|it| it.max(Duration::from_millis(1)));
        set_socket_timeout(&self.0, Timeout::Recv, patience)?;
        let (mut text, mut descriptors) = (Vec::new(), Vec::new());
        let mut packet = vec![0; PACKET + 1];
        loop {
            let count = match self.packet(&mut packet, &mut descriptors) {
                // It has ended without reading everything, which is said once, before what it still said.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.packet(&mut packet, &mut descriptors)?
                }
                other => other?,
            };
            let Some((begin, part)) = packet[..count].split_first() else { return Ok(None) };
            text.extend_from_slice(part);
            if text.len() > MOST {
                return Err(ErrorKind::FileTooLarge.into());
            }
            if *begin == LAST {
                return Ok(Some((serde_json::from_slice(&text)?, descriptors)));
            }
        }
    }

    fn packet(&self, packet: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut beside = RecvAncillaryBuffer::new(&mut room);
        let received = rustix::io::retry_on_intr(|| {
            let mut space = [IoSliceMut::new(packet)];
            recvmsg(&self.0, &mut space, &mut beside, RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(group) = message {
                descriptors.extend(group);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            let why = "not every descriptor found room here (ulimit -n, LimitNOFILE=)";
            return Err(io::Error::other(why));
        }
        Ok(received.bytes)
    }

    /// Ends it for both sides.
    pub(super) fn end(&self) {
        // It may have ended already.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}

impl AsFd for Pair {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Pair, Pair) {
        let (one, other) = Pair::new().unwrap();
        (one, Pair::of(other))
    }

    fn handed(worker: usize) -> Handed {
        Handed { role: Role::Listener, name: "[::]:80".into(), listener: 3, worker }
    }

    #[test]
    fn many_descriptors_and_a_long_word_arrive_as_they_were_sent() {
        let (one, other) = pair();
        let sockets: Vec<Handed> = (0..300).map(handed).collect();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let descriptors = vec![listener.as_fd(); sockets.len()];
        let version = "x".repeat(3 * PACKET);
        let state = State { protocol: PROTOCOL, version, sockets, ..State::default() };
        let word = Word::State(Box::new(state));
        let (heard, taken) = std::thread::scope(|scope| {
            let hear = scope.spawn(|| other.hear(Some(Duration::from_secs(10))).unwrap().unwrap());
            one.say(&word, &descriptors, Some(Duration::from_secs(10))).unwrap();
            hear.join().unwrap()
        });
        let Word::State(heard) = heard else { panic!("{heard:?}") };
        assert_eq!((heard.version.len(), heard.sockets.len()), (3 * PACKET, taken.len()));
        assert_eq!((heard.sockets[299].worker, heard.sockets[299].listener), (299, 3));
        let address = listener.local_addr().unwrap();
        for socket in taken {
            let socket = std::net::TcpListener::from(socket);
            assert_eq!(socket.local_addr().unwrap(), address);
        }
    }

    #[test]
    fn what_another_version_has_more_or_less_is_no_hindrance() {
        let text = r#"{"word": "state", "protocol": 7, "colour": "blue",
            "sockets": [{"role": "teapot", "name": "a", "size": 2}]}"#;
        let Ok(Word::State(state)) = serde_json::from_str(text) else { panic!("{text}") };
        assert_eq!((state.protocol, state.generation), (7, 0));
        assert_eq!(state.sockets[0].role, Role::Unknown);
        let unknown = serde_json::from_str(r#"{"word": "sing", "song": 1}"#).unwrap();
        assert!(matches!(unknown, Word::Unknown));
    }

    #[test]
    fn one_that_is_silent_or_gone_is_noticed() {
        let (one, other) = pair();
        let error = one.hear(Some(Duration::from_millis(5))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        other.say(&Word::Prepared, &[], None).unwrap();
        one.say(&Word::Lead, &[], None).unwrap();
        drop(other);
        assert!(matches!(one.hear(None), Ok(Some((Word::Prepared, _)))), "its last word");
        assert!(one.hear(None).unwrap().is_none());
        assert!(one.say(&Word::Lead, &[], None).is_err());
    }
}

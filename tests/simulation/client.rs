//! Scripted clients: one connection each, with requests to send in its own manner, and a judgement on
//! every answer it reads.

use std::collections::VecDeque;

use crate::hardship::Hardship;
use crate::message::{Event, Framing, Head, Queue, Reader};
use crate::model::{Body, Fate, Kind, Model, Profile, Request, Upload};
use crate::net::{Far, Got};
use crate::random::Rng;
use crate::target::check_trailers;

/// What no server can take for a request.
const GARBAGE: [&[u8]; 10] = [
    b"GET /no-host HTTP/1.1\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: sim\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /a b HTTP/1.1\r\nHost: sim\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: sim\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\nHost: sim\n\n",
    b"TRACE / HTTP/1.1\r\nHost: sim\r\n\r\n",
    b"CONNECT sim:80 HTTP/1.1\r\nHost: sim:80\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: sim\r\nHost: sim\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: gzip\r\n\r\n",
];

/// How long a client waits for a 100 before it sends its body all the same.
const CONTINUE_WAIT: u64 = 1_500_000;

/// The longest way of a request to the engine, in microseconds.
const WAY: u64 = 20_000;

/// How a client goes about it.
#[derive(Debug, Clone)]
struct Manner {
    /// Requests it sends ahead of the answers.
    depth: usize,
    /// The longest wait before the next request.
    think: u64,
    /// The most that is read at once, and the longest rest behind it.
    appetite: (usize, u64),
    /// So many reads are small ones, with seconds between them.
    sips: u32,
    /// So often it rests for nearly as long as a body may.
    naps: u32,
    /// Percent of writes after which it rests.
    hesitates: u64,
    /// It ends its side behind its last request.
    half_close: bool,
    /// It leaves the closing to the server.
    stays: bool,
    /// It does something else when so many bytes have gone by.
    quits: Option<(u64, Quit)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quit {
    Close,
    Reset,
    /// It reads and writes nothing for this long, in microseconds.
    Freeze(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Between two requests.
    Rest,
    AwaitsContinue(u64),
    Body(u64),
    Tunnel(u64),
    /// Nothing more will be sent.
    Done,
}

/// The answer that is being read.
struct Reading {
    id: u64,
    status: u16,
    /// Which attempt's answer it is; `None` for one of the engine's own.
    attempt: Option<usize>,
    got: u64,
    closes: bool,
}

pub(crate) struct Client {
    /// Requests not begun.
    todo: VecDeque<u64>,
    /// Requests begun and not answered, in order.
    awaited: VecDeque<u64>,
    sending: Option<u64>,
    stage: Stage,
    out: Queue,
    /// The request whose bytes were last put into the queue.
    queued: Option<u64>,
    reader: Reader,
    reading: Option<Reading>,
    interim: bool,
    continued: bool,
    /// An answer said that the connection ends behind it.
    told_to_close: bool,
    server_ended: bool,
    /// A write failed, and so took the error that a read would have told.
    write_failed: bool,
    shut: bool,
    /// When its connection was closed while something was short.
    gave_way: Option<u64>,
    over: bool,
    moved: u64,
    /// When something last went either way.
    pub(crate) progress: u64,
    send_again: u64,
    begin_again: u64,
    read_again: u64,
    manner: Manner,
    rng: Rng,
}

impl Client {
    /// A client with requests of its own, which it adds to the model.
    pub(crate) fn new(mut rng: Rng, model: &mut Model, now: u64) -> Client {
        let modern = rng.chance(85);
        let count = rng.weighted(&[(40, 1), (40, 4), (20, 9)]);
        let manner = Manner::new(&mut rng, model, modern);
        // Whoever reads as slowly as this may find that its connection was idle for too long to us.
        let count = if manner.sips > 0 { 1 } else { rng.within(1..=count) };
        let mut todo = VecDeque::new();
        for at in 1..=count {
            let request = invent(&mut rng, model, modern, at == count, &manner);
            let ends = request.closes || request.kind != Kind::Plain;
            todo.push_back(model.add(request));
            if ends {
                break;
            }
        }
        Client::with(todo, manner, rng, now)
    }

    /// A client that sends one plain GET after another, each when the last was answered.
    pub(crate) fn sequential(rng: Rng, model: &mut Model, count: usize) -> Client {
        let get = || Request::plain("GET", true);
        let todo = (0..count).map(|_| model.add(get())).collect();
        Client::with(todo, Manner::PLAIN, rng, 0)
    }

    fn with(todo: VecDeque<u64>, manner: Manner, rng: Rng, now: u64) -> Client {
        Client {
            todo,
            awaited: VecDeque::new(),
            sending: None,
            stage: Stage::Rest,
            out: Queue::default(),
            queued: None,
            reader: Reader::new(),
            reading: None,
            interim: false,
            continued: false,
            told_to_close: false,
            server_ended: false,
            write_failed: false,
            shut: false,
            gave_way: None,
            over: false,
            moved: 0,
            progress: now,
            send_again: 0,
            begin_again: 0,
            read_again: 0,
            manner,
            rng,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether it waits for somebody else.
    pub(crate) fn is_owed(&self) -> bool {
        !self.over && (!self.awaited.is_empty() || self.sending.is_some() || self.reading.is_some())
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.status == 101)
    }

    /// Whether it has stopped doing anything for a while.
    pub(crate) fn is_frozen(&self, now: u64) -> bool {
        self.read_again > now + 3_000_000
    }

    /// Its connection was closed at once, for want of something.
    pub(crate) fn turned_away(&mut self, model: &mut Model) {
        self.leave(model);
    }

    /// Its connection was closed while something was short, which it may have seen to be idle.
    pub(crate) fn gave_way(&mut self, now: u64) {
        self.gave_way = Some(now);
    }

    /// Its connection breaks down on the way.
    pub(crate) fn break_down(&mut self, far: &mut Far<'_>, model: &mut Model) {
        far.reset();
        self.leave(model);
    }

    fn leave(&mut self, model: &mut Model) {
        self.over = true;
        if let Some(id) = self.queued {
            model.get(id).upload = Upload::Part;
        }
        // It may leave after its request was given a turn and before it was sent.
        model.undisturbed = false;
        for id in self.awaited.drain(..).chain(self.todo.drain(..)) {
            model.settle(id, Fate::Left);
        }
        if let Some(id) = self.sending.take() {
            // A tunnel: the other direction may have ended well before.
            model.get(id).fate = Fate::Left;
        }
    }

    /// Does what can be done now. When to come back, if anything is left to do at a time.
    pub(crate) fn wake(&mut self, far: &mut Far<'_>, model: &mut Model) -> Option<u64> {
        let now = far.now();
        if self.over {
            return None;
        }
        self.read(far, model);
        if !self.over {
            self.send(far, model);
        }
        if !self.over {
            self.part(far, model);
        }
        if self.over {
            return None;
        }
        let continued = match self.stage {
            Stage::AwaitsContinue(until) => until,
            _ => 0,
        };
        [self.read_again, self.send_again, self.begin_again, continued]
            .into_iter()
            .filter(|&at| at > now)
            .min()
    }

    fn moved(&mut self, count: usize, far: &mut Far<'_>, model: &mut Model) {
        self.moved += count as u64;
        self.progress = far.now();
        let Some((_, quit)) = self.manner.quits.take_if(|(after, _)| *after <= self.moved) else {
            return;
        };
        match quit {
            Quit::Close => far.close(),
            Quit::Reset => far.reset(),
            Quit::Freeze(time) => {
                self.read_again = far.now() + time;
                self.send_again = far.now() + time;
                return;
            }
        }
        self.leave(model);
    }

    fn read(&mut self, far: &mut Far<'_>, model: &mut Model) {
        while !self.server_ended && self.read_again <= far.now() {
            let sips = self.manner.sips > 0;
            let most = if sips { far.part(40) } else { self.manner.appetite.0 };
            match far.read(most) {
                Got::Bytes(bytes) => {
                    self.reader.push(&bytes);
                    self.take_events(model, far.wire);
                    self.moved(bytes.len(), far, model);
                    if sips && self.reading.is_some() && !self.over {
                        self.manner.sips -= 1;
                        self.read_again = far.now() + self.rng.within(3_000_000..=5_000_000);
                    } else if self.manner.appetite.1 > 0 && !self.over {
                        let rest = self.rng.within(1..=self.manner.appetite.1);
                        self.read_again = self.read_again.max(far.now() + rest);
                    }
                    if self.over {
                        return;
                    }
                }
                Got::Nothing => return,
                Got::End => return self.ended(!self.write_failed, far, model),
                Got::Reset => return self.ended(false, far, model),
            }
        }
    }

    fn take_events(&mut self, model: &mut Model, wire: usize) {
        let front = self.awaited.front().copied();
        while let Some(event) = self.reader.next(|head| frame(head, front, model)) {
            match event {
                Event::Head(head) => self.take_head(&head, model, wire),
                Event::Data(data) => self.take_data(&data),
                Event::End(_) if self.interim => self.interim = false,
                Event::End(trailers) => {
                    self.take_end(&trailers, model);
                    // The next answer belongs to the next request.
                    return self.take_events(model, wire);
                }
            }
        }
    }

    fn take_head(&mut self, head: &Head, model: &mut Model, wire: usize) {
        let &id =
            self.awaited.front().unwrap_or_else(|| panic!("nobody asked on wire {wire}: {head:?}"));
        assert_eq!(head.word(0), "HTTP/1.1");
        let status: u16 = head.word(1).parse().expect("a status");
        if status < 200 && status != 101 {
            return self.take_interim(status, head, model.get(id));
        }
        let closes = head.says("connection", "close");
        let all_sent = self.sending != Some(id) && (self.out.is_empty() || self.queued != Some(id));
        let attempt = check_origin(head, id, status, model);
        let draining = model.draining;
        let taken = model.get(id).taken.clone();
        let poisoned = taken.iter().any(|wire| model.poisoned.contains(wire));
        let request = model.get(id);
        let refuses = !poisoned && attempt.is_none_or(|attempt| request.answers[attempt].refuses);
        assert!(
            closes || all_sent || !refuses || status == 101,
            "{id} was not read to its end: {head:?} {:?} {request:?} out {}",
            self.stage,
            self.out.len()
        );
        request.held_back = request.expect && !self.continued;
        let ours = attempt.is_none();
        let may_close =
            refuses || ours || request.held_back || request.closes || !request.modern || draining;
        assert!(!closes || may_close, "why does the connection end? {head:?} {request:?}");
        if status == 101 {
            let agreed = model.get(id).kind == Kind::Upgrade { agreed: true };
            assert!(agreed, "a tunnel that {id} did not ask for");
            self.stage = Stage::Tunnel(0);
            self.sending = Some(id);
        }
        self.reading = Some(Reading { id, status, attempt, got: 0, closes });
    }

    fn take_interim(&mut self, status: u16, head: &Head, request: &Request) {
        assert!(request.modern, "an interim answer for a 1.0 client");
        assert!(status != 100 || request.expect, "a 100 nobody asked for");
        assert_eq!(Framing::declared(head), None, "{head:?}");
        self.interim = true;
        self.continued |= status == 100;
    }

    fn take_data(&mut self, data: &[u8]) {
        let reading = self.reading.as_mut().expect("a body has a head");
        if reading.attempt.is_some() {
            Body::Answer(reading.id).check(reading.got, data);
        }
        reading.got += data.len() as u64;
    }

    fn take_end(&mut self, trailers: &[(String, String)], model: &mut Model) {
        let reading = self.reading.take().expect("an end has a head");
        let request = model.get(reading.id);
        let fate = match reading.attempt {
            None => {
                // There may have been no memory for it when it had been given its turn.
                model.undisturbed &= reading.status != 503;
                Fate::Refused(reading.status)
            }
            Some(attempt) => {
                let answer = &request.answers[attempt];
                let len = if request.method == "HEAD" { 0 } else { answer.len };
                assert_eq!(reading.got, len, "the answer to {} came whole", reading.id);
                assert!(answer.whole, "the answer to {} never had an end: {answer:?}", reading.id);
                let has_trailer = answer.trailer && request.modern && request.method != "HEAD";
                check_trailers(trailers, has_trailer, reading.id);
                request.attempt = Some(attempt);
                Fate::Answered
            }
        };
        model.settle(reading.id, fate);
        self.awaited.pop_front();
        if self.sending == Some(reading.id) && reading.closes && self.rng.chance(70) {
            // No use in sending the rest.
            self.sending = None;
            self.out.clear();
            self.stage = Stage::Done;
        } else if self.sending == Some(reading.id) && self.rng.chance(10) {
            self.manner.quits = Some((self.moved, Quit::Close));
        }
        if reading.closes {
            self.told_to_close = true;
            // What was not answered never will be, and nothing more is begun.
            let rest = self.awaited.drain(..).chain(self.todo.drain(..));
            rest.for_each(|id| model.settle(id, Fate::Left));
        }
    }

    /// The server's side ended, in order or by a reset.
    fn ended(&mut self, in_order: bool, far: &mut Far<'_>, model: &mut Model) {
        self.server_ended = true;
        self.progress = far.now();
        if let Some(reading) = &self.reading
            && reading.status == 101
        {
            return self.tunnel_ended(in_order, far, model);
        }
        if self.reading.is_some() && self.reader.ends_at_close() && in_order {
            self.take_end(&[], model);
        } else if let Some(reading) = self.reading.take() {
            self.awaited.pop_front();
            // What was closed when it seemed idle may meet a request, which takes the answer before it away.
            let fate = match (self.shut, self.gave_way) {
                (true, _) => model.given_up(Fate::Cut),
                (false, Some(_)) => Fate::Left,
                (false, None) => Fate::Cut,
            };
            model.settle(reading.id, fate);
        }
        for id in self.awaited.drain(..) {
            let unanswered = Fate::Unanswered;
            // A request on its way to a connection that gave way comes too late.
            let request = model.get(id);
            let late = self.gave_way.is_some_and(|at| request.begun + WAY >= at);
            let late = late && request.taken.is_empty();
            // One that comes takes with it what was not read of the answer before.
            let answered = request.answers.last().is_some_and(|answer| answer.whole);
            let fate = if late || self.gave_way.is_some() && answered {
                Fate::Left
            } else if self.shut {
                model.given_up(unanswered)
            } else {
                unanswered
            };
            model.settle(id, fate);
        }
        for id in self.todo.drain(..) {
            model.settle(id, Fate::Left);
        }
        if let Some(id) = self.sending
            && !self.told_to_close
        {
            model.get(id).upload = Upload::CutOff;
        }
        self.over = true;
        far.close();
    }

    fn tunnel_ended(&mut self, in_order: bool, far: &mut Far<'_>, model: &mut Model) {
        let reading = self.reading.as_ref().expect("a tunnel has a head");
        let answer = &model.get(reading.id).answers[reading.attempt.expect("only targets tunnel")];
        let whole = in_order && answer.whole && reading.got == answer.len;
        assert!(whole || model.profile != Profile::Fair, "tunnel {} was cut", reading.id);
        let id = reading.id;
        model.settle(id, if whole { Fate::Answered } else { Fate::Cut });
        self.awaited.clear();
        if !whole || self.sending.is_none() {
            self.over = true;
            far.close();
        }
    }

    fn send(&mut self, far: &mut Far<'_>, model: &mut Model) {
        while self.send_again <= far.now() && !self.over {
            if self.out.is_empty() {
                if !self.refill(far, model) {
                    return;
                }
                continue;
            }
            match far.write(self.out.as_slice()) {
                Some(0) => return,
                Some(count) => {
                    self.out.consume(count);
                    if let (true, None, Some(id)) = (self.out.is_empty(), self.sending, self.queued)
                    {
                        model.get(id).upload = Upload::Whole;
                    }
                    self.moved(count, far, model);
                    if matches!(self.stage, Stage::Body(1..))
                        && self.manner.naps > 0
                        && self.rng.chance(30)
                    {
                        self.manner.naps -= 1;
                        self.send_again = far.now() + self.rng.within(20_000_000..=28_500_000);
                    } else if self.rng.chance(self.manner.hesitates) && !self.over {
                        self.send_again =
                            self.send_again.max(far.now() + self.rng.within(1..=4_000));
                    }
                }
                None => {
                    // Broken, but what was read before may hold an answer: the reading side will tell.
                    self.write_failed = true;
                    if let Some(id) = self.sending.take()
                        && !self.told_to_close
                    {
                        model.get(id).upload = Upload::CutOff;
                    }
                    self.out.clear();
                    self.stage = Stage::Done;
                    if self.server_ended {
                        self.leave(model);
                        return far.close();
                    }
                    return self.read(far, model);
                }
            }
        }
    }

    /// Takes a step towards more bytes in the queue. `false` if there is none to be taken now.
    fn refill(&mut self, far: &mut Far<'_>, model: &mut Model) -> bool {
        match self.stage {
            Stage::Done => false,
            Stage::Rest => self.begin(far, model),
            Stage::AwaitsContinue(until) => {
                let answered = self.reading.is_some();
                if !self.continued && !answered && far.now() < until {
                    return false;
                }
                self.stage = Stage::Body(0);
                true
            }
            Stage::Body(offset) => self.body(offset, far, model),
            Stage::Tunnel(offset) => self.tunnel(offset, far, model),
        }
    }

    fn begin(&mut self, far: &mut Far<'_>, model: &mut Model) -> bool {
        let rests = self.begin_again > far.now() || self.awaited.len() >= self.manner.depth;
        if rests || self.told_to_close || self.server_ended {
            return false;
        }
        let Some(id) = self.todo.pop_front() else {
            if self.manner.half_close && !std::mem::replace(&mut self.shut, true) {
                far.shutdown();
                self.stage = Stage::Done;
            }
            return false;
        };
        self.awaited.push_back(id);
        self.queued = Some(id);
        self.continued = false;
        model.get(id).begun = far.now();
        let request = model.get(id).clone();
        self.out.push(&head(id, &request));
        self.sending = Some(id);
        self.stage = match request.kind {
            Kind::Garbage(_) => {
                self.sending = None;
                // Somebody who sends garbage does not stop there.
                self.out.push(&vec![b'!'; usize::try_from(self.rng.within(0..=30_000)).unwrap()]);
                Stage::Done
            }
            _ if request.expect => Stage::AwaitsContinue(far.now() + CONTINUE_WAIT),
            _ => Stage::Body(0),
        };
        let bodiless = matches!(request.framing, Framing::Nothing | Framing::Length(0));
        if self.stage == Stage::Body(0) && bodiless {
            self.request_sent(far, &request);
        }
        true
    }

    fn body(&mut self, offset: u64, far: &mut Far<'_>, model: &mut Model) -> bool {
        let id = self.sending.expect("a body has a request");
        let request = model.get(id).clone();
        let left = request.len - offset;
        if request.kind == Kind::BrokenBody && (left == 0 || self.rng.chance(30)) {
            self.out.push(b"zz\r\n");
            (self.sending, self.stage) = (None, Stage::Done);
            return true;
        }
        if left == 0 {
            return self.end_of_body(id, far, &request);
        }
        let piece = usize::try_from(self.rng.within(1..=left.min(30_000))).unwrap();
        let bytes = Body::Request(id).bytes(offset, piece);
        if request.framing == Framing::Chunked {
            self.out.push(format!("{piece:x}\r\n").as_bytes());
            self.out.push(bytes);
            self.out.push(b"\r\n");
        } else {
            self.out.push(bytes);
        }
        self.stage = Stage::Body(offset + piece as u64);
        if piece as u64 == left && request.kind != Kind::BrokenBody {
            self.end_of_body(id, far, &request);
        }
        true
    }

    fn end_of_body(&mut self, id: u64, far: &mut Far<'_>, request: &Request) -> bool {
        if request.framing == Framing::Chunked {
            self.out.push(b"0\r\n");
            if request.trailer {
                self.out.push(format!("X-Trail: {id}\r\n").as_bytes());
            }
            self.out.push(b"\r\n");
        }
        self.request_sent(far, request);
        true
    }

    /// All of a request is in the queue.
    fn request_sent(&mut self, far: &mut Far<'_>, request: &Request) {
        self.sending = None;
        let last = request.closes || request.kind != Kind::Plain;
        self.stage = if last { Stage::Done } else { Stage::Rest };
        if self.manner.think > 0 {
            self.begin_again = far.now() + self.rng.within(0..=self.manner.think);
        }
    }

    fn tunnel(&mut self, offset: u64, far: &mut Far<'_>, model: &mut Model) -> bool {
        let id = self.sending.expect("a tunnel has a request");
        let left = model.get(id).len - offset;
        if left == 0 {
            (self.sending, self.stage) = (None, Stage::Done);
            far.shutdown();
            if self.server_ended {
                self.over = true;
                far.close();
            }
            return false;
        }
        let piece = usize::try_from(self.rng.within(1..=left.min(20_000))).unwrap();
        self.out.push(Body::Request(id).bytes(offset, piece));
        self.stage = Stage::Tunnel(offset + piece as u64);
        true
    }

    /// Closes when there is nothing more to do.
    fn part(&mut self, far: &mut Far<'_>, _model: &mut Model) {
        let unsent = self.sending.is_some() || !self.out.is_empty();
        if !self.awaited.is_empty() || !self.todo.is_empty() || self.reading.is_some() || unsent {
            return;
        }
        let waits_for_server = self.told_to_close || self.shut || self.manner.stays;
        if !waits_for_server {
            self.over = true;
            far.close();
        }
    }
}

impl Manner {
    const PLAIN: Manner = Manner {
        depth: 1,
        think: 0,
        appetite: (1 << 16, 0),
        sips: 0,
        naps: 0,
        hesitates: 0,
        half_close: false,
        stays: false,
        quits: None,
    };

    fn new(rng: &mut Rng, model: &Model, modern: bool) -> Manner {
        let stormy = model.profile == Profile::Stormy;
        let slow = model.hardships.has(Hardship::SlowPeers);
        let rude = stormy || rng.chance(10);
        let quit = |rng: &mut Rng| {
            let after = rng.weighted(&[(50, 300), (50, 100_000)]);
            let freeze = rng.within(1_000_000..=100_000_000);
            let how = match stormy {
                true => rng.one_of(&[Quit::Close, Quit::Reset, Quit::Freeze(freeze)]),
                false => rng.one_of(&[Quit::Close, Quit::Reset]),
            };
            (rng.within(0..=after), how)
        };
        Manner {
            depth: if modern { rng.weighted(&[(60, 1), (20, 2), (20, 8)]) } else { 1 },
            think: rng.weighted(&[(60, 0), (30, 5_000), (10, 3_000_000)]),
            appetite: rng.weighted(&[
                (70, (1 << 16, 0)),
                (20, (8_192, 3_000)),
                (10, (2_000, 60_000)),
            ]),
            sips: if slow && rng.chance(30) { 100 } else { 0 },
            naps: if slow && rng.chance(30) { 2 } else { 0 },
            hesitates: rng.weighted(&[(60, 0), (40, 20)]),
            half_close: rng.chance(15),
            stays: rng.chance(15),
            quits: (rude && rng.chance(40)).then(|| quit(rng)),
        }
    }
}

impl Request {
    /// A request without a body.
    pub(crate) fn plain(method: &'static str, modern: bool) -> Request {
        Request {
            kind: Kind::Plain,
            method,
            modern,
            framing: Framing::Nothing,
            len: 0,
            trailer: false,
            expect: false,
            closes: false,
            keep_alive: false,
            begun: 0,
            taken: Vec::new(),
            behind: 0,
            taken_at: 0,
            answers: Vec::new(),
            attempt: None,
            upload: Upload::Part,
            held_back: false,
            fate: Fate::Open,
        }
    }
}

/// Makes a request up.
fn invent(rng: &mut Rng, model: &Model, modern: bool, last: bool, manner: &Manner) -> Request {
    let method = rng.weighted(&[
        (50, "GET"),
        (10, "HEAD"),
        (20, "POST"),
        (10, "PUT"),
        (5, "DELETE"),
        (5, "PATCH"),
    ]);
    let mut request = Request::plain(method, modern);
    let has_body = match method {
        "POST" | "PUT" | "PATCH" => true,
        _ => rng.chance(4),
    };
    if has_body {
        request.len = model.size(rng);
        let chunked = modern && rng.chance(40);
        request.framing = if chunked { Framing::Chunked } else { Framing::Length(request.len) };
        request.trailer = chunked && rng.chance(30);
        request.expect = modern && request.len > 0 && rng.chance(15);
    }
    request.closes = last && rng.chance(20);
    request.keep_alive = !modern && !request.closes && (!last || rng.chance(50));
    if modern && last && !request.closes {
        match rng.within(0..=99) {
            0..8 if !manner.half_close => {
                let len = model.size(rng);
                request = Request { len, ..Request::plain("GET", true) };
                request.kind = Kind::Upgrade { agreed: rng.chance(75) };
                if request.kind == (Kind::Upgrade { agreed: false }) {
                    request.len = 0;
                }
            }
            8..14 => request.kind = Kind::Garbage(rng.below(GARBAGE.len())),
            14..18 if request.framing == Framing::Chunked => request.kind = Kind::BrokenBody,
            _ => {}
        }
    }
    request
}

fn head(id: u64, request: &Request) -> Vec<u8> {
    if let Kind::Garbage(which) = request.kind {
        return GARBAGE[which].to_vec();
    }
    let version = if request.modern { "1.1" } else { "1.0" };
    let mut head =
        format!("{} /r/{id} HTTP/{version}\r\nHost: sim\r\nX-Id: {id}\r\n", request.method);
    match request.framing {
        Framing::Length(len) => head += &format!("Content-Length: {len}\r\n"),
        Framing::Chunked => head += "Transfer-Encoding: chunked\r\n",
        Framing::Nothing | Framing::UntilClose => {}
    }
    if request.expect {
        head += "Expect: 100-continue\r\n";
    }
    if request.closes && request.modern {
        head += "Connection: close\r\n";
    }
    if request.keep_alive {
        head += "Connection: keep-alive\r\n";
    }
    if let Kind::Upgrade { .. } = request.kind {
        head += "Connection: upgrade\r\nUpgrade: sim\r\n";
    }
    (head + "\r\n").into_bytes()
}

/// How the body of an answer to the request `front` is framed.
fn frame(head: &Head, front: Option<u64>, model: &mut Model) -> Framing {
    let status: u16 = head.word(1).parse().expect("a status");
    let Some(front) = front else { return Framing::Nothing };
    let request = model.get(front);
    let declared = Framing::declared(head);
    assert!(
        declared != Some(Framing::Chunked) || request.modern,
        "chunks for a 1.0 client: {head:?}"
    );
    match declared {
        _ if status == 101 => Framing::UntilClose,
        _ if request.method == "HEAD" && !matches!(request.kind, Kind::Garbage(_)) => {
            Framing::Nothing
        }
        _ if matches!(status, 100..=199 | 204 | 304) => Framing::Nothing,
        Some(framing) => framing,
        None => {
            assert!(!request.modern, "an answer without framing: {head:?}");
            assert!(head.says("connection", "close"), "{head:?}");
            Framing::UntilClose
        }
    }
}

/// Which attempt's answer this is; `None` for one of the engine's own.
fn check_origin(head: &Head, id: u64, status: u16, model: &mut Model) -> Option<usize> {
    let taken = model.get(id).taken.clone();
    let foreign =
        head.get("x-poison").is_some() || head.number("x-id").is_some_and(|echo| echo != id);
    if foreign && taken.iter().any(|wire| model.poisoned.contains(wire)) {
        // The target said it so late that it could not be told from the answer.
        return None;
    }
    assert!(head.get("x-poison").is_none(), "an answer nobody asked for reached request {id}");
    let Some(echo) = head.number("x-id") else {
        let own = [400, 405, 408, 414, 417, 431, 501, 502, 503, 504, 505];
        assert!(own.contains(&status), "whose answer is this? {head:?}");
        return None;
    };
    assert_eq!(echo, id, "the answer to another request: {head:?}");
    let attempt = usize::try_from(head.number("x-try").expect("X-Try")).unwrap();
    let answer = &model.get(id).answers[attempt];
    assert_eq!(answer.status, status);
    Some(attempt)
}

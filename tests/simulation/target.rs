//! Scripted targets: one connection at a time, in all the ways in which a target may answer, or not.

use crate::hardship::{Hardship, Hardships};
use crate::message::{Event, Framing, Queue, Reader};
use crate::model::{Answer, Body, Fate, Kind, Model, Profile, Request};
use crate::net::{Far, Got};
use crate::random::Rng;

/// How a target misbehaves in one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Malice {
    /// No HTTP at all.
    Garbage,
    /// Both Content-Length and Transfer-Encoding.
    TwoFramings,
    /// 101 to a request that asked for nothing.
    UnaskedSwitch,
    /// A chunk size that is none, in the middle.
    BadChunk,
    /// A second answer right behind the first.
    TwoAnswers,
    /// Interim answers without end.
    Interims,
    /// A head beyond all limits.
    HugeHead,
}

/// How the connection ends in the middle of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    End,
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Until this time.
    Waiting(u64),
    Body(u64),
    /// All is in the queue.
    Ended,
    /// Tunnel bytes from here on.
    Tunnel(u64),
    /// All of the tunnel's bytes were sent, and our end.
    TunnelEnded,
}

/// How one request is answered.
#[derive(Debug, Clone)]
struct Plan {
    status: u16,
    /// Bytes of the body.
    len: u64,
    framing: Framing,
    trailer: bool,
    /// It answers before the request has come to its end.
    early: bool,
    /// It speaks HTTP/1.0.
    old: bool,
    /// It announces that it closes.
    say_close: bool,
    death: Option<(u64, Death)>,
    malice: Option<Malice>,
    /// It does not look for a body, and takes what comes behind the head for the next request.
    careless: bool,
}

impl Plan {
    fn invent(
        rng: &mut Rng,
        request: &Request,
        (stormy, hardships): (bool, &Hardships),
        len: u64,
    ) -> Plan {
        let careless = hardships.has(Hardship::UnreadBytes);
        let slow = hardships.has(Hardship::SlowPeers);
        let bodies = matches!(request.method, "POST" | "PUT" | "PATCH");
        let careless = careless && !bodies && request.len > 0 && request.kind == Kind::Plain;
        let tunnel = request.kind == Kind::Upgrade { agreed: true };
        let malice = (stormy && !tunnel && rng.chance(15)).then(|| Malice::invent(rng));
        let early = careless || request.has_body() && rng.chance(12);
        let how = if rng.chance(50) { Death::End } else { Death::Reset };
        let death = (stormy && rng.chance(15)).then(|| (rng.within(0..=len), how));
        let status =
            if tunnel { 101 } else { rng.weighted(&[(80, 200), (8, 404), (6, 204), (6, 304)]) };
        // Whoever sips an answer that refuses its request may be given up on while it lingers.
        let status = if slow && early && status == 404 { 200 } else { status };
        let bodiless = matches!(status, 204 | 304);
        let old = !tunnel && rng.chance(8);
        let framing = match rng.weighted(&[(55, 0), (35, 1), (10, 2)]) {
            _ if tunnel => Framing::UntilClose,
            _ if bodiless => Framing::Nothing,
            _ if malice == Some(Malice::BadChunk) => Framing::Chunked,
            1 if !old => Framing::Chunked,
            2 if !early || stormy => Framing::UntilClose,
            _ => Framing::Length(len),
        };
        // What follows a body that ends with the connection would belong to it.
        let endless = framing == Framing::UntilClose;
        let malice = malice.filter(|&malice| !endless || malice != Malice::TwoAnswers);
        let unframed = request.method == "HEAD" && endless;
        Plan {
            status,
            len: if bodiless { 0 } else { len },
            framing,
            trailer: framing == Framing::Chunked && rng.chance(30),
            early,
            old,
            say_close: !tunnel && (unframed || rng.chance(12)),
            death,
            malice,
            careless,
        }
    }

    fn answer(&self, wire: usize) -> Answer {
        let Plan { status, len, framing, trailer, .. } = *self;
        let refuses = status >= 400 && self.say_close;
        Answer { wire, status, len, framing, trailer, whole: false, refuses, read_whole: false }
    }

    fn then_close(&self) -> bool {
        self.say_close || self.framing == Framing::UntilClose && self.status != 101
    }
}

impl Malice {
    fn invent(rng: &mut Rng) -> Malice {
        rng.one_of(&[
            Malice::Garbage,
            Malice::TwoFramings,
            Malice::UnaskedSwitch,
            Malice::BadChunk,
            Malice::TwoAnswers,
            Malice::Interims,
            Malice::HugeHead,
        ])
    }
}

/// The answer to one request.
struct Current {
    id: u64,
    attempt: usize,
    stage: Stage,
    /// Bytes of the request's body that came.
    got: u64,
    request_done: bool,
    plan: Plan,
    /// What it sent can be no whole answer.
    lies: bool,
}

pub(crate) struct Target {
    reader: Reader,
    current: Option<Current>,
    out: Queue,
    served: u32,
    over: bool,
    rng: Rng,
    /// The most that is read at once, and how long it then rests.
    appetite: (usize, u64),
    /// So many reads of a body are small ones, with seconds between them.
    sips: u32,
    read_again: u64,
    write_again: u64,
    /// The far end was closed by the engine.
    ended: bool,
}

impl Target {
    pub(crate) fn new(mut rng: Rng, slow: bool) -> Target {
        let appetite = rng.weighted(&[(70, (1 << 16, 0)), (20, (4096, 300)), (10, (700, 2_000))]);
        Target {
            reader: Reader::new(),
            current: None,
            out: Queue::default(),
            served: 0,
            over: false,
            appetite,
            sips: if slow && rng.chance(20) { 60 } else { 0 },
            rng,
            read_again: 0,
            write_again: 0,
            ended: false,
        }
    }

    /// Whether it waits for another request on a connection that has served one.
    pub(crate) fn is_idle(&self) -> bool {
        !self.over && self.served > 0 && self.current.is_none() && self.reader.at_boundary()
    }

    /// Ends an idle connection, or says something on it that nobody asked for.
    pub(crate) fn disturb(&mut self, far: &mut Far<'_>, model: &mut Model) {
        model.faulty.push(far.wire);
        // The whole of it: what follows a part would be read as the end of its field.
        if model.profile == Profile::Stormy && self.rng.chance(30) && far.room() >= POISON.len() {
            model.poisoned.push(far.wire);
            let mut rest = POISON;
            while !rest.is_empty()
                && let Some(count @ 1..) = far.write(rest)
            {
                rest = &rest[count..];
            }
            return;
        }
        // A reset would destroy what of the last answer is still on its way.
        match self.rng.chance(50) && far.is_quiet() {
            true => far.reset(),
            false => far.close(),
        }
        self.over = true;
    }

    /// It dies with all that it was about to do.
    pub(crate) fn die(&mut self, far: &mut Far<'_>, model: &mut Model) {
        model.faulty.push(far.wire);
        let ends_at_close = self.current.as_ref().is_some_and(|current| {
            model.get(current.id).answers[current.attempt].framing == Framing::UntilClose
        });
        // Nobody could tell a plain end from the proper one there.
        match self.rng.chance(50) && !ends_at_close {
            true => far.close(),
            false => far.reset(),
        }
        self.over = true;
    }

    /// Does what can be done now. When to come back, if anything is left to do at a time.
    pub(crate) fn wake(&mut self, far: &mut Far<'_>, model: &mut Model) -> Option<u64> {
        if self.over {
            return None;
        }
        self.read(far, model);
        if !self.over {
            self.answer(far, model);
        }
        if self.over {
            return None;
        }
        let now = far.now();
        let waiting = self.current.as_ref().and_then(|current| match current.stage {
            Stage::Waiting(until) => Some(until),
            _ => None,
        });
        [Some(self.read_again), Some(self.write_again), waiting]
            .into_iter()
            .flatten()
            .filter(|&at| at > now)
            .min()
    }

    fn read(&mut self, far: &mut Far<'_>, model: &mut Model) {
        if self.ended || self.read_again > far.now() {
            return;
        }
        loop {
            let sips = self.sips > 0 && self.current.as_ref().is_some_and(|it| !it.request_done);
            match far.read(if sips { far.part(6) } else { self.appetite.0 }) {
                Got::Bytes(bytes) => {
                    self.reader.push(&bytes);
                    self.take_events(far, model);
                    if self.over {
                        return;
                    }
                }
                Got::Nothing => return,
                Got::End => return self.request_side_ended(far, model),
                Got::Reset => {
                    self.over = true;
                    return far.close();
                }
            }
            if sips && self.current.as_ref().is_some_and(|it| !it.request_done) {
                self.sips -= 1;
                self.read_again = far.now() + self.rng.within(1_000_000..=4_000_000);
                return;
            }
            if self.appetite.1 > 0 {
                self.read_again = far.now() + self.rng.within(1..=self.appetite.1);
                return;
            }
        }
    }

    fn request_side_ended(&mut self, far: &mut Far<'_>, model: &mut Model) {
        self.ended = true;
        let tunnel = self.current.as_ref().is_some_and(Current::is_tunnel);
        if !tunnel {
            // The engine never half-closes a request: it gave this connection up.
            self.over = true;
            return far.close();
        }
        if let Some(current) = &self.current
            && model.profile == Profile::Fair
        {
            let request = model.get(current.id);
            let whole = current.got == request.len || request.fate == Fate::Left;
            assert!(whole, "the client's bytes of tunnel {} came whole", current.id);
        }
    }

    fn take_events(&mut self, far: &mut Far<'_>, model: &mut Model) {
        while let Some(event) = self.reader.next(|head| {
            // A request that asks for a tunnel and will get it has no other body than the tunnel's.
            let id = id_of(head.word(1));
            match model.get(id).kind {
                Kind::Upgrade { agreed: true } => Framing::UntilClose,
                _ => Framing::declared(head).unwrap_or(Framing::Nothing),
            }
        }) {
            match event {
                Event::Head(head) => {
                    if self.current.is_some() && model.poisoned.contains(&far.wire) {
                        // What was not meant as an answer was taken for one.
                        self.over = true;
                        return far.reset();
                    }
                    assert!(self.current.is_none(), "a request before the last was answered");
                    let id = id_of(head.word(1));
                    check_request(&head, id, model);
                    self.current = Some(self.decide(id, far, model));
                }
                Event::Data(data) => {
                    let current = self.current.as_mut().expect("a body has a head");
                    if current.is_asked_for_tunnel(model) && model.poisoned.contains(&far.wire) {
                        // Likewise: what comes is the next request, not the tunnel's bytes.
                        self.over = true;
                        return far.reset();
                    }
                    Body::Request(current.id).check(current.got, &data);
                    current.got += data.len() as u64;
                }
                Event::End(trailers) => {
                    let current = self.current.as_mut().expect("an end has a head");
                    current.request_done = true;
                    let request = model.get(current.id);
                    request.answers[current.attempt].read_whole = true;
                    assert_eq!(
                        current.got, request.len,
                        "the body of request {} came whole",
                        current.id
                    );
                    assert!(request.kind != Kind::BrokenBody, "a broken body has no end");
                    check_trailers(&trailers, request.trailer, current.id);
                    self.finish_if_answered(far, model);
                    if self.over {
                        return;
                    }
                }
            }
        }
    }

    /// Chooses how to answer.
    fn decide(&mut self, id: u64, far: &mut Far<'_>, model: &mut Model) -> Current {
        let stormy = model.profile == Profile::Stormy;
        let hardships = model.hardships.clone();
        let slow = hardships.has(Hardship::SlowPeers);
        let len = model.size(&mut self.rng);
        let request = model.get(id);
        let plan = Plan::invent(&mut self.rng, request, (stormy, &hardships), len);
        let (attempt, taken_at) = (request.answers.len(), request.taken_at);
        request.answers.push(plan.answer(far.wire));
        self.give_interims(&plan, request.expect);
        let request_done = !matches!(request.framing, Framing::Length(_) | Framing::Chunked);
        if plan.death.is_some() || plan.malice.is_some() {
            model.faulty.push(far.wire);
        }
        far.network
            .trace
            .tell(far.network.now, || format!("wire {} answers {id} by {plan:?}", far.wire));
        let delay = self.rng.weighted(&[(60, 0), (30, 2_000), (10, 700_000)]);
        let mut until = far.now() + self.rng.within(0..=delay);
        // Scripts do nothing while a call takes its time, so that they seem later than they are.
        if slow && !hardships.has(Hardship::LongTurns) && self.rng.chance(15) {
            // Just before the limit, by a clock that may say a time one second earlier.
            until = taken_at + self.rng.within(28_000_000..=28_900_000);
        }
        let lies = !matches!(plan.malice, None | Some(Malice::BadChunk | Malice::TwoAnswers));
        Current { id, attempt, stage: Stage::Waiting(until), got: 0, request_done, plan, lies }
    }

    /// Interims go out at once: a client may wait for them.
    fn give_interims(&mut self, plan: &Plan, expected: bool) {
        if !plan.old && plan.status != 101 {
            if expected && self.rng.chance(80) || self.rng.chance(4) {
                self.out.push(interim(100).as_bytes());
            }
            if self.rng.chance(8) {
                self.out.push(interim(103).as_bytes());
            }
        }
        if plan.malice == Some(Malice::Interims) {
            (0..40).for_each(|_| self.out.push(interim(103).as_bytes()));
        }
    }

    fn answer(&mut self, far: &mut Far<'_>, model: &mut Model) {
        loop {
            if !self.flush(far, model) || self.over {
                return;
            }
            if !self.produce(far, model) {
                return;
            }
        }
    }

    /// Writes what is queued. `false` if something still waits.
    fn flush(&mut self, far: &mut Far<'_>, model: &mut Model) -> bool {
        if self.write_again > far.now() {
            return false;
        }
        while !self.out.is_empty() {
            match far.write(self.out.as_slice()) {
                Some(0) => return false,
                Some(count) => self.out.consume(count),
                None => {
                    self.over = true;
                    far.close();
                    return false;
                }
            }
            if !self.out.is_empty() && self.rng.chance(20) {
                self.write_again = far.now() + self.rng.within(1..=3_000);
                return false;
            }
        }
        self.flushed(far, model);
        true
    }

    fn flushed(&mut self, far: &mut Far<'_>, model: &mut Model) {
        let Some(current) = &mut self.current else { return };
        if current.stage != Stage::Ended {
            return;
        }
        let answer = &mut model.get(current.id).answers[current.attempt];
        answer.whole = !current.lies;
        if current.plan.malice == Some(Malice::TwoAnswers) && model.poisoned.contains(&far.wire) {
            model.spoil(far.wire);
        }
        self.served += 1;
        far.answered();
        if current.plan.careless {
            model.careless.push(far.wire);
        }
        self.finish_if_answered(far, model);
    }

    /// The exchange is over when both the request was read and the answer written.
    fn finish_if_answered(&mut self, far: &mut Far<'_>, model: &mut Model) {
        let Some(current) = &self.current else { return };
        if current.stage != Stage::Ended || !self.out.is_empty() {
            return;
        }
        if current.plan.then_close() && (current.request_done || model.profile == Profile::Stormy) {
            self.over = true;
            return far.close();
        }
        if current.request_done {
            self.current = None;
        }
    }

    /// Puts more of the answer into the queue. `false` if there is nothing to be put there now.
    fn produce(&mut self, far: &mut Far<'_>, model: &mut Model) -> bool {
        let Some(current) = &mut self.current else { return false };
        match current.stage {
            Stage::Waiting(until) => {
                let begun = current.request_done
                    || current.plan.early
                    || current.is_asked_for_tunnel(model);
                if until > far.now() || !begun {
                    return false;
                }
                if current.plan.death.is_some() && self.rng.chance(40) {
                    self.die(far, model);
                    return false;
                }
                self.head(far, model);
                true
            }
            Stage::Body(offset) => self.body(offset, far, model),
            Stage::Tunnel(offset) => self.tunnel(offset, far, model),
            Stage::TunnelEnded => {
                if self.ended {
                    self.over = true;
                    far.close();
                }
                false
            }
            Stage::Ended => false,
        }
    }

    fn head(&mut self, far: &mut Far<'_>, model: &mut Model) {
        let current = self.current.as_mut().expect("an answer has a request");
        let request = model.get(current.id);
        let answer = &request.answers[current.attempt];
        let version = if current.plan.old { "1.0" } else { "1.1" };
        let mut head = format!(
            "HTTP/{version} {} Fine\r\nX-Id: {}\r\nX-Try: {}\r\n",
            answer.status, current.id, current.attempt
        );
        match answer.framing {
            Framing::Length(len) => head += &format!("Content-Length: {len}\r\n"),
            Framing::Chunked => head += "Transfer-Encoding: chunked\r\n",
            Framing::Nothing | Framing::UntilClose => {}
        }
        match current.plan.malice {
            Some(Malice::TwoFramings) => {
                head += match answer.framing {
                    Framing::Chunked => "Content-Length: 7\r\n",
                    Framing::Length(_) => "Transfer-Encoding: chunked\r\n",
                    _ => "Content-Length: 7\r\nContent-Length: 8\r\n",
                }
            }
            Some(Malice::UnaskedSwitch) => {
                head =
                    "HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: other\r\n".to_owned();
            }
            Some(Malice::HugeHead) => head += &format!("X-Huge: {}\r\n", "x".repeat(70_000)),
            Some(Malice::Garbage) => head = "220 mail.example ESMTP\r\n".to_owned(),
            _ => {}
        }
        if answer.status == 101 {
            head += "Connection: upgrade\r\nUpgrade: sim\r\n";
            far.stop_tap();
        } else if current.plan.say_close {
            head += "Connection: close\r\n";
        } else if current.plan.old {
            head += "Connection: keep-alive\r\n";
        }
        head += "\r\n";
        self.out.push(head.as_bytes());
        let bodiless = request.method == "HEAD" || matches!(answer.status, 204 | 304);
        current.stage = match answer.status {
            101 => Stage::Tunnel(0),
            _ if bodiless => Stage::Ended,
            _ => Stage::Body(0),
        };
    }

    fn body(&mut self, offset: u64, far: &mut Far<'_>, model: &mut Model) -> bool {
        let current = self.current.as_mut().expect("a body has a request");
        let answer = model.get(current.id).answers[current.attempt].clone();
        if let Some((at, death)) = current.plan.death
            && offset >= at
        {
            self.over = true;
            // Nobody can tell these from a proper end.
            let seems_whole = match answer.framing {
                Framing::Length(len) => offset == len,
                framing => framing == Framing::UntilClose && death == Death::End,
            };
            if seems_whole && !current.lies {
                let answer = &mut model.get(current.id).answers[current.attempt];
                (answer.len, answer.whole) = (offset, true);
                far.answered();
            }
            match death {
                Death::End => far.close(),
                Death::Reset => far.reset(),
            }
            return false;
        }
        let left = answer.len - offset;
        if left == 0 {
            self.end_of_body(&answer, model);
            return true;
        }
        let piece = usize::try_from(self.rng.within(1..=left.min(40_000))).unwrap();
        let piece =
            if self.rng.chance(50) { usize::try_from(left.min(40_000)).unwrap() } else { piece };
        let bytes = Body::Answer(current.id).bytes(offset, piece);
        if answer.framing == Framing::Chunked {
            if current.plan.malice == Some(Malice::BadChunk) && self.rng.chance(50) {
                self.out.push(b"xyz\r\n");
                current.lies = true;
                current.stage = Stage::Ended;
                return true;
            }
            let extension = if self.rng.chance(5) { ";a=b" } else { "" };
            self.out.push(format!("{piece:X}{extension}\r\n").as_bytes());
            self.out.push(bytes);
            self.out.push(b"\r\n");
        } else {
            self.out.push(bytes);
        }
        current.stage = Stage::Body(offset + piece as u64);
        true
    }

    fn end_of_body(&mut self, answer: &Answer, model: &mut Model) {
        let current = self.current.as_mut().expect("a body has a request");
        if answer.framing == Framing::Chunked {
            let broken = current.plan.malice == Some(Malice::BadChunk);
            current.lies |= broken;
            self.out.push(if broken { b"-1\r\n" } else { b"0\r\n" });
            if answer.trailer {
                self.out.push(format!("X-Trail: {}\r\n", current.id).as_bytes());
            }
            self.out.push(b"\r\n");
        }
        if current.plan.malice == Some(Malice::TwoAnswers) {
            model.poisoned.push(answer.wire);
            // All but the last chunk has been written by now.
            model.get(current.id).answers[current.attempt].whole = true;
            self.out.push(POISON);
        }
        current.stage = Stage::Ended;
    }

    fn tunnel(&mut self, offset: u64, far: &mut Far<'_>, model: &mut Model) -> bool {
        let current = self.current.as_mut().expect("a tunnel has a request");
        let answer = &mut model.get(current.id).answers[current.attempt];
        let left = answer.len - offset;
        if left == 0 {
            answer.whole = true;
            current.stage = Stage::TunnelEnded;
            far.shutdown();
            return true;
        }
        let piece = usize::try_from(self.rng.within(1..=left.min(20_000))).unwrap();
        self.out.push(Body::Answer(current.id).bytes(offset, piece));
        current.stage = Stage::Tunnel(offset + piece as u64);
        true
    }
}

impl Current {
    fn is_tunnel(&self) -> bool {
        matches!(self.stage, Stage::Tunnel(_) | Stage::TunnelEnded)
    }

    fn is_asked_for_tunnel(&self, model: &mut Model) -> bool {
        model.get(self.id).kind == Kind::Upgrade { agreed: true }
    }
}

/// An answer that belongs to no request. No client may ever take it for its own.
const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nX-Poison: 1\r\nContent-Length: 6\r\n\r\npoison";

fn interim(status: u16) -> String {
    match status {
        100 => "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
        _ => format!("HTTP/1.1 {status} Early Hints\r\nLink: </a>\r\n\r\n"),
    }
}

fn id_of(target: &str) -> u64 {
    let id = target.strip_prefix("/r/").and_then(|id| id.parse().ok());
    id.unwrap_or_else(|| panic!("no request of ours: {target}"))
}

/// The head reached the target as it was meant.
fn check_request(head: &crate::message::Head, id: u64, model: &mut Model) {
    let request = model.get(id);
    assert_eq!(head.word(0), request.method);
    assert_eq!(head.word(2), "HTTP/1.1");
    // The second is that of a request without one.
    assert!(head.says("host", "sim") || head.says("host", "0.0.0.0:8080"), "{head:?}");
    assert!(head.says("x-forwarded-for", "10.1.2.3"), "{head:?}");
    assert_eq!(head.get("keep-alive"), None);
    let declared = Framing::declared(head).unwrap_or(Framing::Nothing);
    assert_eq!(declared, request.framing, "the framing of request {id}");
    let upgrades = matches!(request.kind, Kind::Upgrade { .. });
    assert_eq!(head.says("upgrade", "sim"), upgrades, "{head:?}");
    assert_eq!(head.says("expect", "100-continue"), request.expect, "{head:?}");
}

/// A trailer section came as it was sent.
pub(crate) fn check_trailers(trailers: &[(String, String)], sent: bool, id: u64) {
    let wanted = sent.then(|| ("X-Trail".to_owned(), id.to_string()));
    assert_eq!(trailers, wanted.as_slice(), "the trailers of {id}");
}

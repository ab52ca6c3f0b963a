// Draws what /targets, /status and /metrics say, each second. What comes from there is set as text, never as HTML.
"use strict";

const EVERY = 1000;
// How long one of them may take.
const PATIENCE = 4000;
// Seconds that percentiles are of, and that lines and "last minute" are of.
const RECENT = 10;
const MINUTE = 60;
const HISTOGRAM = "evenly_request_duration_seconds_bucket";
const WORDS = { response: "answered by evenly itself", cut: "cut", retry: "tried again", ejection: "ejected", check: "check failed" };
// State: its sign, which says the same without the colour, and its class.
const STATES = {
    up: ["●", "good"], down: ["✕", "bad"], ejected: ["✕", "bad"], unknown: ["?", "warn"], drained: ["◐", "warn"],
    disabled: ["○", "warn"], "no address": ["✕", "bad"],
};

const id = (name) => document.getElementById(name);
const samples = [];
const rows = new Map();
const reasons = new Map();
// State of each row as it was said last.
const states = new Map();
let since = null;

function element(name, properties = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
        if (value !== null) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
}

// Only what has changed is touched: whoever selects or hears a text keeps it.
function say(at, text) {
    if (at.textContent !== text) at.textContent = text;
}

function cell(column, name = "td") {
    const role = name === "th" ? "rowheader" : "cell";
    return element(name, { role, scope: name === "th" ? "row" : null, "data-column": column });
}

function duration(seconds) {
    const whole = Math.floor(seconds);
    const parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
    const first = parts.findIndex(([unit]) => whole >= unit);
    if (first < 0) return "0s";
    return parts.slice(first, first + 2).map(([unit, name], at) => {
        const count = at ? Math.floor((whole % parts[first][0]) / unit) : Math.floor(whole / unit);
        return at && !count ? "" : count + name;
    }).filter(Boolean).join(" ");
}

function milliseconds(seconds) {
    const ms = seconds * 1000;
    return ms >= 1000 ? (ms / 1000).toFixed(1) + " s" : ms.toFixed(ms < 10 ? 1 : 0) + " ms";
}

function number(value) {
    return value >= 10 || Number.isInteger(value) ? Math.round(value).toLocaleString("en") : value.toFixed(1);
}

// Clock of who looks, of a time in UTC.
function clock(time) {
    return new Date(time).toLocaleTimeString();
}

// Cumulative counts of the histogram by their upper bounds.
function buckets(text) {
    const found = [];
    for (const line of text.split("\n")) {
        if (!line.startsWith(HISTOGRAM)) continue;
        const match = /le="([^"]+)"\} ([0-9.eE+]+)/.exec(line);
        if (match) found.push([match[1] === "+Inf" ? Infinity : Number(match[1]), Number(match[2])]);
    }
    return found.sort((a, b) => a[0] - b[0]);
}

// The time within which this part of the requests between two samples ended; null without requests.
function percentile(part, now, then) {
    const counts = now.buckets.map(([bound, count], at) => [bound, count - (then.buckets[at]?.[1] ?? 0)]);
    const all = counts.at(-1)?.[1] ?? 0;
    if (all <= 0) return null;
    let [lower, below] = [0, 0];
    for (const [bound, count] of counts) {
        if (count >= part * all) {
            return bound === Infinity ? lower : lower + (bound - lower) * (part * all - below) / (count - below);
        }
        [lower, below] = [bound, count];
    }
    return lower;
}

// The oldest sample of the last so many seconds.
function before(seconds) {
    const now = samples.at(-1).at;
    return samples.find((sample) => now - sample.at <= seconds * 1000 + EVERY / 2);
}

// How many per second were added to what `count` reads.
function rate(now, then, count) {
    const elapsed = (now.at - then.at) / 1000;
    return elapsed > 0 ? Math.max(0, count(now) - count(then)) / elapsed : null;
}

function line(at, values) {
    const most = Math.max(...values.map((value) => value ?? 0), 1e-9);
    const first = MINUTE - values.length;
    const points = values.map((value, index) => `${first + index},${(19 - 18 * (value ?? 0) / most).toFixed(2)}`);
    let drawn = at.firstChild;
    if (!drawn) {
        drawn = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
        at.append(drawn);
    }
    drawn.setAttribute("points", points.join(" "));
}

function drawRequests(status) {
    const now = samples.at(-1);
    const requests = (sample) => sample.requests;
    const rates = samples.slice(1).map((sample, at) => rate(sample, samples[at], requests));
    const recent = before(RECENT);
    const perSecond = rate(now, before(3), requests);
    say(id("rate"), perSecond === null ? "–" : number(perSecond));
    for (const [name, part] of [["p50", 0.5], ["p90", 0.9], ["p99", 0.99]]) {
        const within = percentile(part, now, recent);
        say(id(name), within === null ? "–" : milliseconds(within));
    }
    say(id("in-flight"), number(now.inFlight));
    say(id("connections"), `${number(status.connections)} of ${number(status.connections_limit)}`);
    line(id("rates"), rates.slice(-MINUTE));
    line(id("slow"), samples.slice(1).map((sample, at) => percentile(0.99, sample, samples[at])).slice(-MINUTE));
}

function newRow(key, target, address) {
    const row = element("tr", { role: "row" });
    const columns = ["target", "state", "since", "last checks", "requests", "why", "by hand"];
    const cells = columns.map((column, at) => cell(column, at ? "td" : "th"));
    row.append(...cells);
    const [name, state, since, checks, requests, why, hand] = cells;
    name.append(element("span", {}, target, element("span", { class: "part" }, address && address !== target ? address : "")));
    const [sign, word] = [element("span", { "aria-hidden": "true" }), element("span")];
    state.append(element("span", { class: "state" }, sign, " ", word));
    const [when, at] = [element("span"), element("span", { class: "part" })];
    since.append(element("span", {}, when, at));
    const [strip, list] = [element("summary"), element("ol")];
    const details = element("details", {}, strip, list);
    checks.append(details);
    const [perSecond, rest] = [element("span"), element("span", { class: "part" })];
    requests.append(element("span", {}, perSecond, rest));
    const [reason, decided] = [element("span"), element("span", { class: "part" })];
    why.append(element("span", {}, reason, decided));
    const button = element("button", { type: "button" });
    hand.append(button);
    const made = { row, target, sign, word, state, when, at, details, strip, list, checks: "", perSecond, rest, reason, decided, why, button };
    button.addEventListener("click", () => steer(made, address ?? target));
    rows.set(key, made);
    return made;
}

function drawChecks(row, checks) {
    const text = JSON.stringify(checks);
    if (row.checks === text) return;
    row.checks = text;
    row.details.hidden = !checks.length;
    const failed = checks.filter((check) => !check.passed).length;
    const said = `last ${checks.length} checks: ${checks.length - failed} passed, ${failed} failed`;
    const tell = (check) => `${clock(check.time)}: ${check.result}, ${check.latency_ms.toFixed(1)} ms`;
    const strip = element("span", { role: "img", "aria-label": said });
    strip.append(...checks.map((check) => {
        const kind = check.passed ? "good" : "bad";
        return element("span", { class: "check " + kind, title: tell(check) }, check.passed ? "+" : "✕");
    }));
    row.strip.replaceChildren(strip);
    row.list.replaceChildren(...checks.map((check) => element("li", {}, (check.passed ? "passed at " : "failed at ") + tell(check))));
}

function drawRow(key, target, endpoint) {
    const row = rows.get(key) ?? newRow(key, target.target, endpoint?.address ?? null);
    const word = endpoint?.state ?? "no address";
    const [sign, kind] = STATES[word] ?? ["?", "warn"];
    say(row.sign, sign);
    say(row.word, word);
    row.state.className = kind;
    say(row.when, endpoint?.for_seconds == null ? "" : duration(endpoint.for_seconds));
    say(row.at, endpoint?.since ? "since " + clock(endpoint.since) : "");
    drawChecks(row, endpoint?.checks ?? []);
    const [now, then] = [samples.at(-1), before(3)];
    const perSecond = rate(now, then, (sample) => sample.responses.get(key) ?? 0);
    say(row.perSecond, endpoint ? `${perSecond === null ? "–" : number(perSecond)} per s` : "");
    say(row.rest, endpoint ? `${number(endpoint.in_flight)} in flight` : "");
    const decided = endpoint?.override;
    const why = target.unresolved ?? endpoint?.why ?? "";
    const hand = decided ? `by ${decided.unsaved ? "hand" : "the file"}: ${decided.state}${decided.unsaved ? ", unsaved" : ""}` : "";
    say(row.reason, why);
    say(row.decided, hand);
    row.why.className = why || hand ? "" : "empty";
    const isOut = Boolean(decided) && decided.state !== "auto";
    row.button.dataset.state = isOut ? "auto" : "drain";
    say(row.button, isOut ? "Put back" : "Take out");
    const name = endpoint && endpoint.address !== target.target ? `${target.target} at ${endpoint.address}` : target.target;
    row.button.setAttribute("aria-label", `${isOut ? "Put back" : "Take out"} ${name}`);
    return [key, row, name, word, why];
}

function drawTargets(list) {
    const drawn = [];
    for (const target of list.targets) {
        if (!target.endpoints.length) drawn.push(drawRow(target.target + "\n", target, null));
        for (const endpoint of target.endpoints) drawn.push(drawRow(keyOf(target, endpoint), target, endpoint));
    }
    const keys = new Set(drawn.map(([key]) => key));
    const changes = [];
    for (const [key, row] of rows) {
        if (keys.has(key)) continue;
        row.row.remove();
        rows.delete(key);
        states.delete(key);
        changes.push(`${row.target} is gone`);
    }
    drawn.forEach(([key, row, name, word, why], at) => {
        const body = id("rows");
        if (body.children[at] !== row.row) body.insertBefore(row.row, body.children[at] ?? null);
        const old = states.get(key);
        states.set(key, word);
        if (old !== undefined && old !== word) changes.push(`${name} is ${word}${why && word !== "up" ? ": " + why : ""}`);
    });
    if (changes.length) say(id("said"), `${clock(Date.now())}: ${changes.join("; ")}`);
}

const keyOf = (target, endpoint) => target.target + "\n" + endpoint.address;

function drawReasons(status) {
    const then = before(MINUTE).reasons;
    let count = 0;
    for (const [event, counted] of Object.entries(status.reasons)) {
        for (const [reason, total] of Object.entries(counted)) {
            count += 1;
            const key = event + "\n" + reason;
            let row = reasons.get(key);
            if (!row) {
                const cells = [cell("what", "th"), cell("reason"), cell("last minute"), cell("in all")];
                cells[0].append(WORDS[event] ?? event);
                cells[1].append(element("code", {}, reason));
                row = { recent: cells[2], total: cells[3] };
                row.recent.append(element("span"));
                row.total.append(element("span"));
                id("why").append(element("tr", { role: "row" }, ...cells));
                reasons.set(key, row);
            }
            say(row.recent.firstChild, number(Math.max(0, total - (then[event]?.[reason] ?? 0))));
            say(row.total.firstChild, number(total));
        }
    }
    id("nothing").hidden = count > 0;
}

function drawSummary(status) {
    const healthy = `endpoints: ${status.endpoints_healthy} of ${status.endpoints.length} healthy`;
    say(id("version"), status.version);
    say(id("summary"), `${status.stage} for ${duration(status.uptime_seconds)}; ${healthy}; generation ${status.generation}`);
    document.title = status.endpoints_healthy < status.endpoints.length ? `(${status.endpoints.length - status.endpoints_healthy} out) evenly` : "evenly";
}

function keep(list, status, metrics) {
    const responses = new Map();
    for (const target of list.targets) {
        for (const endpoint of target.endpoints) responses.set(keyOf(target, endpoint), endpoint.totals.responses);
    }
    const inFlight = /^evenly_requests_in_flight ([0-9.eE+]+)$/m.exec(metrics);
    const sample = {
        at: performance.now(), requests: status.counters.requests, reasons: status.reasons, responses,
        buckets: buckets(metrics), inFlight: Number(inFlight?.[1] ?? 0),
    };
    // It was restarted: what was counted before is of another process.
    if (samples.length && samples.at(-1).requests > sample.requests) {
        samples.length = 0;
        reasons.clear();
        id("why").replaceChildren();
    }
    samples.push(sample);
    if (samples.length > MINUTE + 1) samples.shift();
}

async function get(path) {
    const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) throw new Error(`${path} was answered with ${response.status}`);
    return response.text();
}

async function draw() {
    const [list, status, metrics] = await Promise.all([get("targets"), get("status"), get("metrics")]);
    const [targets, state] = [JSON.parse(list), JSON.parse(status)];
    keep(targets, state, metrics);
    drawSummary(state);
    drawRequests(state);
    drawTargets(targets);
    drawReasons(state);
}

async function steer(row, name) {
    const token = id("token").value.trim();
    const state = row.button.dataset.state;
    if (!token) {
        say(id("said"), "The token is needed for that: what is in the file of admin.token_file. On its machine evenly drain TARGET needs none.");
        id("token").focus();
        return;
    }
    if (row.button.getAttribute("aria-busy") === "true") return;
    row.button.setAttribute("aria-busy", "true");
    try {
        const response = await fetch("targets/" + encodeURIComponent(name), {
            method: "PUT", body: JSON.stringify({ state }), headers: { Authorization: "Bearer " + token, "Content-Type": "application/json" },
            signal: AbortSignal.timeout(PATIENCE * 2),
        });
        say(id("said"), (await response.text()).trim());
    } catch (error) {
        say(id("said"), `${name}: evenly gave no answer (${error.message})`);
    } finally {
        row.button.removeAttribute("aria-busy");
    }
}

async function turn() {
    try {
        // A page that nobody sees asks for nothing.
        if (!document.hidden) {
            await draw();
            since = null;
        }
    } catch (error) {
        since ??= new Date();
        say(id("notice"), `evenly has not answered since ${since.toLocaleTimeString()} (${error.message}). What is shown is older.`);
    }
    id("notice").hidden = since === null;
    document.body.classList.toggle("stale", since !== null);
    setTimeout(turn, EVERY);
}

id("form").addEventListener("submit", (event) => event.preventDefault());
turn();

//! `ingress-client`: the story's client. Arguments to one request; a failure to an exit code.

use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use evenly_demo::ingress::{Ask, Field, Url};
use hyper::Method;

const EXIT_CODES: &str = "\
Exit codes, as curl's:
   0  a response of status 1xx to 3xx (redirects are not followed)
   1  a scheme other than http
   2  wrong arguments
   3  not a URL
   6  the host could not be resolved
   7  no connection
  22  a response of status 400 or more; its body is printed
  23  the output could not be written
  28  it took longer than --max-time
  52  the server closed without a response
  56  the response broke off";

/// Sends one HTTP request, like curl, and prints the body of the response. The URL's host is looked up by the demo's
/// resolver; IP addresses are taken as they are. A status of 400 or more is named on standard error.
#[derive(Parser)]
#[command(name = "ingress-client", version, after_help = EXIT_CODES)]
struct Arguments {
    /// GET by default, POST with -d.
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<Method>,
    /// A header field; takes the place of one that is sent by itself. May be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    fields: Vec<Field>,
    /// The body; sent with `Content-Type: application/json` unless -H gives another.
    #[arg(short = 'd', long = "data", value_name = "BODY", allow_hyphen_values = true)]
    body: Option<String>,
    /// Print the status line and the header fields before the body.
    #[arg(short, long)]
    include: bool,
    /// The DNS server that is asked for the host's addresses.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5302")]
    resolver: SocketAddr,
    /// Seconds for everything together.
    #[arg(short, long, value_name = "SECONDS", default_value = "30",
          value_parser = clap::value_parser!(u16).range(1..))]
    max_time: u16,
    /// Where the request goes; http:// may be left out.
    #[arg(default_value = "http://spells.test:8080/spells")]
    url: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let include = arguments.include;
    let asked = match arguments.url.parse::<Url>() {
        Ok(url) => ask(arguments, url).run(&mut BufWriter::new(io::stdout().lock())).await,
        Err(failure) => Err(failure),
    };
    let Err(failure) = asked else { return ExitCode::SUCCESS };
    // With -i the status is already there.
    if !(include && failure.exit_code() == 22) {
        let _ = writeln!(io::stderr().lock(), "ingress-client: {failure}");
    }
    ExitCode::from(failure.exit_code())
}

fn ask(arguments: Arguments, url: Url) -> Ask {
    Ask {
        method: arguments.method,
        fields: arguments.fields,
        body: arguments.body,
        url,
        resolver: arguments.resolver,
        max_time: Duration::from_secs(arguments.max_time.into()),
        include: arguments.include,
    }
}

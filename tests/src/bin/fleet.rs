//! `fleet`: sends a simulated fleet through twenty minutes of weather under each way to choose instances,
//! and writes what it saw into `docs/fleet.md` and pictures beside it.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use anyhow::Context;
use bff_engine::internals::fleet::{Contender, Fleet, Report, Second, Weather, simulate};
use clap::Parser;

#[derive(Debug, Parser)]
struct Args {
    /// Instances of the service.
    #[arg(long, default_value_t = 1000)]
    instances: usize,
    /// Web tiers, which know nothing of one another.
    #[arg(long, default_value_t = 50)]
    tiers: usize,
    /// Calls a second, of all tiers together.
    #[arg(long, default_value_t = 20_000)]
    calls: u32,
    /// For everything that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where `fleet.md` is.
    #[arg(long, default_value = "docs")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let fleet = Fleet {
        instances: args.instances,
        tiers: args.tiers,
        calls_per_second: args.calls,
        seed: args.seed,
    };
    let weather = Weather::all();
    let waiting = Mutex::new(Contender::ALL.to_vec());
    let reports = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut waiting| waiting.pop());
                    let Some(contender) = next else { break };
                    let report = simulate(&fleet, contender, &weather);
                    eprintln!("{} is done", contender.as_str());
                    if let Ok(mut reports) = reports.lock() {
                        reports.push((contender, report));
                    }
                }
            });
        }
    });
    let mut reports = reports
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a simulation panicked"))?;
    reports.sort_by_key(|(contender, _)| Contender::ALL.iter().position(|one| one == contender));
    let figures = figures(&args, &reports);
    print!("{figures}");
    let page = args.out.join("fleet.md");
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let (before, rest) = text.split_once(BEGIN).context("no place for the figures")?;
    let (_, after) = rest.split_once(END).context("no end of the figures")?;
    fs::write(&page, format!("{before}{BEGIN}\n\n{figures}{END}{after}"))?;
    let pictures: [(&str, &str, Value); 3] = [
        ("failed", "failed calls, % of a second", |second| {
            100.0 * second.failed as f64 / second.calls.max(1) as f64
        }),
        ("p99", "p99 of a second, ms", |second| {
            second.percentile(0.99)
        }),
        ("amplification", "attempts for each call", |second| {
            second.attempts as f64 / second.came.max(1) as f64
        }),
    ];
    for (name, title, value) in pictures {
        picture(
            &args.out.join(format!("fleet-{name}.svg")),
            title,
            &reports,
            &weather,
            value,
        )?;
    }
    Ok(())
}

type Value = fn(&Second) -> f64;

const BEGIN: &str = "<!-- figures -->";
const END: &str = "<!-- end of the figures -->";

/// The table.
fn figures(args: &Args, reports: &[(Contender, Report)]) -> String {
    let mut text = format!(
        "{} instances, {} tiers, {} calls a second, seed {}.\n\n",
        args.instances, args.tiers, args.calls, args.seed
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "| weather | | failed, % | p50 ms | p99 ms | p99.9 ms | attempts per call, worst ten seconds | wrongly ejected, worst second | recovery, s |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    let phases = reports.first().map_or(0, |(_, report)| report.phases.len());
    for phase in 0..phases {
        for (contender, report) in reports {
            let Some(phase) = report.phases.get(phase) else {
                continue;
            };
            let [p50, p99, p999] = phase.latency;
            let _ = writeln!(
                text,
                "| {} | {} | {:.4} | {p50:.0} | {p99:.0} | {p999:.0} | {:.3} | {} | {} |",
                phase.name,
                contender.as_str(),
                100.0 * phase.failed as f64 / phase.calls.max(1) as f64,
                phase.amplification,
                phase.wrongly_ejected,
                phase.recovery,
            );
        }
    }
    let _ = writeln!(
        text,
        "\n| | calls | failed | busiest instance / mean, in the calm |\n|---|---|---|---|"
    );
    for (contender, report) in reports {
        let calls: u64 = report.seconds.iter().map(|second| second.calls).sum();
        let failed: u64 = report.seconds.iter().map(|second| second.failed).sum();
        let _ = writeln!(
            text,
            "| {} | {calls} | {failed} | {:.3} |",
            contender.as_str(),
            report.spread
        );
    }
    text.push('\n');
    text
}

/// A line for each contender over the seconds, on a logarithmic scale.
fn picture(
    path: &Path,
    title: &str,
    reports: &[(Contender, Report)],
    weather: &[(u64, u64, Weather)],
    value: Value,
) -> anyhow::Result<()> {
    const COLOURS: [&str; 5] = ["#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00"];
    let (width, height, left, top) = (1200.0, 360.0, 60.0, 50.0);
    let seconds = reports.iter().map(|(_, report)| report.seconds.len()).max();
    let seconds = seconds.unwrap_or(1).max(1) as f64;
    let all = || {
        let seconds = reports.iter().flat_map(|(_, report)| &report.seconds);
        seconds.map(value).filter(|value| *value > 0.0)
    };
    let highest = all().fold(f64::MIN_POSITIVE, f64::max);
    let lowest = all().fold(highest, f64::min).max(highest / 1e5);
    let scale = |value: f64| {
        let share =
            (value.max(lowest) / lowest).ln() / (highest / lowest).ln().max(f64::MIN_POSITIVE);
        top + height * (1.0 - share)
    };
    let across = |second: f64| left + width * second / seconds;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{left}\" y=\"16\" font-size=\"14\">{title}</text>\n",
        width + left + 20.0,
        height + top + 40.0
    );
    for (begins, lasts, weather) in weather {
        let (from, to) = (across(*begins as f64), across((begins + lasts) as f64));
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.0}\" y=\"{top}\" width=\"{:.0}\" height=\"{height}\" fill=\"#eee\"/>\
             <text x=\"{from:.0}\" y=\"{}\">{}</text>",
            to - from,
            top + height + 16.0,
            weather.as_str()
        );
    }
    let mut mark = 10_f64.powf(lowest.log10().ceil());
    while mark <= highest {
        let y = scale(mark);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{y:.0}\" y2=\"{y:.0}\" stroke=\"#ccc\"/><text x=\"4\" y=\"{y:.0}\">{mark}</text>",
            left + width
        );
        mark *= 10.0;
    }
    for (n, ((contender, report), colour)) in reports.iter().zip(COLOURS).enumerate() {
        let points: String = report
            .seconds
            .iter()
            .enumerate()
            .map(|(second, seen)| {
                format!("{:.1},{:.1} ", across(second as f64), scale(value(seen)))
            })
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\"/>\
             <text x=\"{:.0}\" y=\"34\" fill=\"{colour}\">{}</text>",
            left + 150.0 * n as f64,
            contender.as_str()
        );
    }
    svg.push_str("</svg>\n");
    fs::write(path, svg).with_context(|| path.display().to_string())
}

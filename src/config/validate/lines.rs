//! Input and output lines: each used once, and all of the same world.

use super::super::diagnostic::Problem;
use super::super::raw::{Problems, Section, Value};
use super::super::{Bias, CheckAction, InputLine, Interlock, LineName, OutputLine, PanelLine};
use super::{MS_MAX, ON_FAIL, ms};
use crate::units::{Micros, OutputId};
use std::cell::RefCell;
use std::ops::Range;

/// The chip that is built into elek.
pub(super) const SIMULATED_CHIP: &str = "sim";

/// Longest name of a line: the kernel stores 32 bytes with the zero at the end.
const NAME_MAX: usize = 31;
/// Longest label, name or path of a chip.
const CHIP_MAX: usize = crate::outputs::protocol::CHIP_MAX;
/// No chip has as many lines.
const OFFSET_MAX: i64 = 65_535;

const BIAS: [(&str, Bias); 3] = [
    ("pull_up", Bias::PullUp),
    ("pull_down", Bias::PullDown),
    ("disabled", Bias::Disabled),
];

/// Every line met so far.
pub(super) struct Lines<'t> {
    problems: &'t Problems,
    outputs: RefCell<Vec<OutputLine>>,
    met: RefCell<Vec<Met>>,
}

struct Met {
    chip: String,
    name: LineName,
    path: String,
    span: Range<usize>,
    /// Of the panel or its button: real, whatever the camera is.
    of_panel: bool,
}

impl<'t> Lines<'t> {
    pub fn new(problems: &'t Problems) -> Self {
        Lines {
            problems,
            outputs: RefCell::default(),
            met: RefCell::default(),
        }
    }

    pub fn outputs(self) -> Vec<OutputLine> {
        self.outputs.into_inner()
    }

    pub fn is_safe_on(&self, output: OutputId) -> bool {
        self.outputs.borrow()[usize::from(output.0)].safe_on
    }

    pub fn input(&self, v: &Value<'_>) -> Option<InputLine> {
        self.input_in(v, &v.section()?)
    }

    fn input_in(&self, v: &Value<'_>, s: &Section<'_>) -> Option<InputLine> {
        self.input_of(v, s, false)
    }

    /// The button that turns the pages of the panel.
    pub fn page_button(&self, v: &Value<'_>) -> Option<InputLine> {
        self.input_of(v, &v.section()?, true)
    }

    fn input_of(&self, v: &Value<'_>, s: &Section<'_>, of_panel: bool) -> Option<InputLine> {
        let line = self.line(v, s, of_panel);
        let bias = s.or("bias", Bias::Kept, |v| v.choice(&BIAS));
        let (chip, name, active_low) = line?;
        Some(InputLine {
            chip,
            name,
            active_low,
            bias: bias?,
        })
    }

    /// An output line of the panel; `active` only where the board may turn it round.
    pub fn panel_line(&self, v: &Value<'_>, polarity: bool) -> Option<PanelLine> {
        let s = v.section()?;
        let named = self.named(v, &s, true);
        let low = if polarity { active_low(&s) } else { Some(false) };
        let (chip, name) = named?;
        Some(PanelLine {
            chip,
            name,
            active_low: low?,
        })
    }

    /// An input that stops the belt or raises an alarm when it stays active.
    pub fn interlock(&self, v: &Value<'_>) -> Option<Interlock> {
        let s = v.section()?;
        let line = self.input_in(v, &s);
        let hold = s.or("hold_ms", 0.0, |v| v.number(0.0..=MS_MAX));
        let action = s.or("action", CheckAction::StopBelt, |v| v.choice(&ON_FAIL));
        Some(Interlock {
            line: line?,
            hold: ms(hold?),
            action: action?,
        })
    }

    /// An output that holds a level: permit and beacon.
    pub fn held_output(&self, v: &Value<'_>) -> Option<OutputId> {
        let s = v.section()?;
        let line = self.line(v, &s, false);
        let safe_on = safe(&s);
        self.output(line?, safe_on?, None)
    }

    /// An output that is pulsed, and never longer than `max_on_ms`.
    pub fn pulsed_output(&self, v: &Value<'_>) -> Option<(OutputId, Micros)> {
        let s = v.section()?;
        let line = self.line(v, &s, false);
        let safe_on = safe(&s);
        let max_on = s.required("max_on_ms", "max_on_ms = 400", |v| v.number(1.0..=60_000.0));
        let max_on = ms(max_on?.value);
        Some((self.output(line?, safe_on?, Some(max_on))?, max_on))
    }

    fn output(
        &self,
        (chip, name, active_low): (String, LineName, bool),
        safe_on: bool,
        max_on: Option<Micros>,
    ) -> Option<OutputId> {
        let mut outputs = self.outputs.borrow_mut();
        let id = OutputId(u8::try_from(outputs.len()).ok()?);
        outputs.push(OutputLine {
            chip,
            name,
            active_low,
            safe_on,
            max_on,
        });
        Some(id)
    }

    fn line(&self, v: &Value<'_>, s: &Section<'_>, of_panel: bool) -> Option<(String, LineName, bool)> {
        let named = self.named(v, s, of_panel);
        let low = active_low(s);
        let (chip, name) = named?;
        Some((chip, name, low?))
    }

    fn named(&self, v: &Value<'_>, s: &Section<'_>, of_panel: bool) -> Option<(String, LineName)> {
        let chip = s.required("chip", "chip = \"gpiochip0\"", |v| short(v, CHIP_MAX));
        let name = s.one_of(&["name", "line"], "name = \"PE_TRIG\", or line = 5");
        let name = name.and_then(|(key, v)| match key {
            "line" => v.integer(0..=OFFSET_MAX).map(|n| LineName::Offset(n as u32)),
            _ => short(&v, NAME_MAX).map(LineName::Name),
        });
        let (chip, name) = (chip?.value, name?);
        self.meet(v, &chip, &name, of_panel)?;
        Some((chip, name))
    }

    /// Two uses of one line are always a mistake: they would fight, or one would be blind.
    fn meet(&self, v: &Value<'_>, chip: &str, name: &LineName, of_panel: bool) -> Option<()> {
        let mut met = self.met.borrow_mut();
        if let Some(first) = met.iter().find(|m| m.chip == chip && m.name == *name) {
            let problem = Problem::new(format!("line {name} of chip {chip} is used twice"))
                .at(v.span.clone(), format!("here as `{}`", v.path))
                .also(first.span.clone(), format!("here as `{}`", first.path))
                .help("give each use a line of its own");
            self.problems.add(problem);
            return None;
        }
        met.push(Met {
            chip: chip.to_owned(),
            name: name.clone(),
            path: v.path.clone(),
            span: v.span.clone(),
            of_panel,
        });
        Some(())
    }

    /// A simulated picture belongs to simulated lines, a real one to real lines:
    /// a real reject must not follow pictures that are not of its belt, and the
    /// other way round parts would be judged and never removed. A panel hangs on real lines, also
    /// where it is tried with the simulated line.
    pub fn agree_with_camera(&self, simulated: bool) {
        for met in self.met.borrow().iter() {
            let on_simulated = met.chip == SIMULATED_CHIP;
            if on_simulated == (simulated && !met.of_panel) {
                continue;
            }
            let problem = if met.of_panel {
                Problem::new(format!("`{}` is a simulated line, but a panel is real", met.path))
                    .at(met.span.clone(), "nothing is wired to this line")
                    .help("name the chip and line it is wired to (`elek probe` lists them)")
            } else if simulated {
                Problem::new(format!(
                    "`{}` is a real line, but the camera is simulated or a folder",
                    met.path
                ))
                .at(met.span.clone(), "a real line")
                .help(format!(
                    "write chip = \"{SIMULATED_CHIP}\", or give the camera a v4l2 source"
                ))
            } else {
                Problem::new(format!(
                    "`{}` is a simulated line, but the camera is real",
                    met.path
                ))
                .at(met.span.clone(), "nothing is wired to this line")
                .help("name the chip and line it is wired to (`elek probe` lists them)")
            };
            self.problems.add(problem);
        }
    }
}

/// A name of the kernel, which stores no longer ones.
fn short(v: &Value<'_>, most: usize) -> Option<String> {
    let name = v.name()?;
    if name.len() > most {
        v.refuse(
            format!("`{}` is too long", v.path),
            &format!("{} bytes", name.len()),
            format!("at most {most} bytes; `elek probe` lists what this machine has"),
        );
        return None;
    }
    Some(name)
}

fn active_low(s: &Section<'_>) -> Option<bool> {
    s.or("active", false, |v| v.choice(&[("high", false), ("low", true)]))
}

fn safe(s: &Section<'_>) -> Option<bool> {
    s.or("safe", false, |v| v.choice(&[("off", false), ("on", true)]))
}

//! Which controls are set, to what, and whether they took.
//!
//! Automatic exposure, gain and frame rate change brightness, blur and mid-exposure behind the station's
//! back, so they are switched off first. What the configuration asks for and the camera does not have is
//! an error, except the power-line frequency, without which a fixed exposure is no worse.

use crate::config::{ControlSetting, ControlValue, PowerLine, V4l2Source};
use serde::Serialize;
use v4l::v4l_sys as sys;

/// `V4L2_CID_EXPOSURE_ABSOLUTE` counts in this unit (V4L2 documentation, Camera Control Reference).
const EXPOSURE_UNIT_US: u32 = 100;
/// The exposure in force may differ by this share from the one configured: a fifth. Rounding to the
/// driver's unit is then still said, but what is reckoned from it (blur, mid-exposure) holds.
const EXPOSURE_SHARE: u32 = 5;

/// A control as the driver tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlInfo {
    pub id: u32,
    pub name: String,
    pub kind: Kind,
    pub min: i32,
    pub max: i32,
    pub step: i32,
    pub default: i32,
    pub flags: u32,
    /// Of a menu.
    pub items: Vec<(i32, String)>,
    pub value: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Number,
    Switch,
    Menu,
    NumberMenu,
    Bits,
    Button,
    /// Opens a group of controls, is none itself.
    Heading,
    /// Text, 64-bit numbers and tables.
    Other,
}

impl Kind {
    pub fn from_number(number: u32) -> Kind {
        match number {
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER => Kind::Number,
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BOOLEAN => Kind::Switch,
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_MENU => Kind::Menu,
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER_MENU => Kind::NumberMenu,
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BITMASK => Kind::Bits,
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BUTTON => Kind::Button,
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_CTRL_CLASS => Kind::Heading,
            _ => Kind::Other,
        }
    }

    /// A value of 32 bits that can be read back.
    pub fn has_value(self) -> bool {
        !matches!(self, Kind::Button | Kind::Heading | Kind::Other)
    }
}

impl ControlInfo {
    /// Set, but without effect, because an automatic control overrides it.
    pub fn inactive(&self) -> bool {
        self.flags & sys::V4L2_CTRL_FLAG_INACTIVE != 0
    }

    fn read_only(&self) -> bool {
        self.flags & sys::V4L2_CTRL_FLAG_READ_ONLY != 0
    }

    /// The control reads back what was written into it.
    fn keeps(&self) -> bool {
        self.kind.has_value() && self.flags & sys::V4L2_CTRL_FLAG_WRITE_ONLY == 0
    }

    /// What may be written into it, in words.
    pub fn range(&self) -> String {
        match self.kind {
            Kind::Menu | Kind::NumberMenu => {
                let items = self.items.iter().map(|(value, name)| format!("{value} = {name}"));
                items.collect::<Vec<_>>().join(", ")
            }
            Kind::Switch => "true or false".to_owned(),
            Kind::Button => "true (a button)".to_owned(),
            Kind::Bits => format!("0 to {:#x}", self.max as u32),
            Kind::Heading | Kind::Other => "nothing that elek can set".to_owned(),
            Kind::Number if self.step > 1 => {
                format!("{} to {} in steps of {}", self.min, self.max, self.step)
            }
            Kind::Number => format!("{} to {}", self.min, self.max),
        }
    }

    fn accepts(&self, value: i32) -> bool {
        match self.kind {
            Kind::Number => {
                let above = i64::from(value) - i64::from(self.min);
                value <= self.max && above >= 0 && above % i64::from(self.step) == 0
            }
            Kind::Switch => value == 0 || value == 1,
            Kind::Menu | Kind::NumberMenu => self.items.iter().any(|(item, _)| *item == value),
            Kind::Bits => value & !self.max == 0,
            Kind::Button => true,
            Kind::Heading | Kind::Other => false,
        }
    }
}

/// Why the controls are not as the configuration wants them.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ControlError {
    #[error(
        "it has no control for its exposure time. If the time is set in another way (a switch, the maker's \
         tool), write `set_exposure = false` beside exposure_us, which then only says how long it is"
    )]
    NoExposure,
    #[error(
        "its control `Exposure` counts in units of its own ({range}), not in µs. Find the value for \
         {exposure_us} µs in the maker's papers and write `controls = {{ Exposure = VALUE }}`"
    )]
    ExposureUnit { range: String, exposure_us: u32 },
    #[error(
        "an exposure of {wanted_us} µs cannot be set: the nearest is {nearest_us} µs (it has {range_us} µs). Write `exposure_us = {nearest_us}`"
    )]
    ExposureRange {
        wanted_us: u32,
        nearest_us: u32,
        range_us: String,
    },
    #[error("its automatic exposure cannot be switched off (it only has {range}). Use another camera")]
    AlwaysAutomatic { range: String },
    #[error("it has no control for gain. Delete the line `gain`")]
    NoGain,
    #[error("it has no control `{name}`. {advice}")]
    Absent { name: String, advice: String },
    #[error("its control `{name}` cannot be {wanted}: it takes {range}")]
    Value {
        name: String,
        wanted: String,
        range: String,
    },
    #[error("its control `{name}` can only be read. Delete it from the configuration")]
    ReadOnly { name: String },
    #[error("its control `{name}` cannot be set to {value}: {error}. {advice}")]
    Failed {
        name: String,
        value: i32,
        error: String,
        advice: &'static str,
    },
    #[error(
        "its control `{name}` was set to {wanted}, but the driver says {got}. Another control may override it, or another program set it"
    )]
    NotKept { name: String, wanted: i32, got: i32 },
    #[error(
        "its control `{name}` has no effect: an automatic control overrides it. Switch that off with `controls = {{ … }}`; the switches are {switches}"
    )]
    Overridden { name: String, switches: String },
}

/// One control to set.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub id: u32,
    pub name: String,
    pub value: i32,
    /// Read it back.
    pub keeps: bool,
    /// It must not be overridden by an automatic control afterwards.
    pub must_act: bool,
}

/// All controls to set, automatic ones first, and what a technician should know about them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub notes: Vec<String>,
}

/// What to set on a camera that offers these controls.
pub fn plan(source: &V4l2Source, offered: &[ControlInfo]) -> Result<Plan, ControlError> {
    let mut plan = Plan::default();
    plan.automatic_exposure_off(source, offered)?;
    plan.automatic_gain_off(source, offered)?;
    plan.power_line(source.power_line, offered)?;
    // What the configuration names itself comes after the switches and before what they free.
    for setting in &source.controls {
        plan.named(setting, offered)?;
    }
    plan.exposure(source, offered)?;
    plan.gain(source.gain, offered)?;
    Ok(plan)
}

fn find(offered: &[ControlInfo], id: u32) -> Option<&ControlInfo> {
    offered.iter().find(|control| control.id == id)
}

impl Plan {
    fn set(&mut self, control: &ControlInfo, value: i32, must_act: bool) -> Result<(), ControlError> {
        if control.read_only() {
            // A fixed control that is as wanted needs no setting.
            if control.value == Some(value) {
                return Ok(());
            }
            let name = control.name.clone();
            return Err(ControlError::ReadOnly { name });
        }
        if !control.accepts(value) {
            return Err(ControlError::Value {
                name: control.name.clone(),
                wanted: value.to_string(),
                range: control.range(),
            });
        }
        self.steps.push(Step {
            id: control.id,
            name: control.name.clone(),
            value,
            keeps: control.keeps(),
            must_act,
        });
        Ok(())
    }

    fn automatic_exposure_off(
        &mut self,
        source: &V4l2Source,
        offered: &[ControlInfo],
    ) -> Result<(), ControlError> {
        if !source.set_exposure {
            return Ok(());
        }
        if let Some(auto) = find(offered, sys::V4L2_CID_EXPOSURE_AUTO) {
            // Shutter priority: time fixed, only the iris moves, which no machine camera has.
            let fixed = [
                sys::v4l2_exposure_auto_type_V4L2_EXPOSURE_MANUAL,
                sys::v4l2_exposure_auto_type_V4L2_EXPOSURE_SHUTTER_PRIORITY,
            ];
            let mut fixed = fixed.into_iter().map(|value| value as i32);
            let Some(value) = fixed.find(|value| auto.accepts(*value)) else {
                return Err(ControlError::AlwaysAutomatic { range: auto.range() });
            };
            self.set(auto, value, false)?;
        }
        if let Some(rate) = find(offered, sys::V4L2_CID_EXPOSURE_AUTO_PRIORITY)
            && !rate.read_only()
        {
            // Otherwise the camera may slow down in the dark.
            self.set(rate, 0, false)?;
        }
        Ok(())
    }

    fn automatic_gain_off(
        &mut self,
        source: &V4l2Source,
        offered: &[ControlInfo],
    ) -> Result<(), ControlError> {
        let Some(auto) = find(offered, sys::V4L2_CID_AUTOGAIN) else {
            return Ok(());
        };
        let named = source.controls.iter().any(|setting| names(setting, auto));
        if source.gain.is_some() {
            self.set(auto, 0, false)
        } else {
            if !named && auto.value == Some(1) {
                self.notes.push(
                    "its gain is automatic, so brightness changes with what lies on the belt: set `gain`"
                        .into(),
                );
            }
            Ok(())
        }
    }

    fn power_line(&mut self, wanted: Option<PowerLine>, offered: &[ControlInfo]) -> Result<(), ControlError> {
        let Some(wanted) = wanted else {
            return Ok(());
        };
        let Some(control) = find(offered, sys::V4L2_CID_POWER_LINE_FREQUENCY) else {
            self.notes.push(
                "it has no control for the power-line frequency; light that flickers must be avoided otherwise"
                    .into(),
            );
            return Ok(());
        };
        let value = match wanted {
            PowerLine::Off => sys::v4l2_power_line_frequency_V4L2_CID_POWER_LINE_FREQUENCY_DISABLED,
            PowerLine::Hz50 => sys::v4l2_power_line_frequency_V4L2_CID_POWER_LINE_FREQUENCY_50HZ,
            PowerLine::Hz60 => sys::v4l2_power_line_frequency_V4L2_CID_POWER_LINE_FREQUENCY_60HZ,
        };
        self.set(control, value as i32, false)
    }

    /// A control by its name or number.
    fn named(&mut self, setting: &ControlSetting, offered: &[ControlInfo]) -> Result<(), ControlError> {
        let Some(control) = offered.iter().find(|control| names(setting, control)) else {
            let known = offered.iter().map(|control| control.name.as_str());
            let near = known
                .map(|name| {
                    (
                        strsim::damerau_levenshtein(&folded(name), &folded(&setting.name)),
                        name,
                    )
                })
                .min_by_key(|(distance, _)| *distance);
            let advice = match near {
                Some((distance, name)) if distance <= setting.name.len() / 3 => {
                    format!("Did you mean `{name}`?")
                }
                _ => "`elek probe` lists the controls it has".to_owned(),
            };
            let name = setting.name.clone();
            return Err(ControlError::Absent { name, advice });
        };
        let refused = |wanted: String| ControlError::Value {
            name: control.name.clone(),
            wanted,
            range: control.range(),
        };
        let value = match &setting.value {
            ControlValue::Number(number) => {
                i32::try_from(*number).map_err(|_| refused(number.to_string()))?
            }
            ControlValue::Flag(flag) => i32::from(*flag),
            ControlValue::Word(word) => {
                let item = control
                    .items
                    .iter()
                    .find(|(_, name)| folded(name) == folded(word));
                item.ok_or_else(|| refused(format!("\"{word}\"")))?.0
            }
        };
        self.set(control, value, false)
    }

    fn exposure(&mut self, source: &V4l2Source, offered: &[ControlInfo]) -> Result<(), ControlError> {
        let by_hand = |id| {
            let control = find(offered, id);
            control.is_some_and(|control| source.controls.iter().any(|setting| names(setting, control)))
        };
        if !source.set_exposure || by_hand(sys::V4L2_CID_EXPOSURE_ABSOLUTE) || by_hand(sys::V4L2_CID_EXPOSURE)
        {
            return Ok(());
        }
        let wanted_us = source.exposure_us;
        let Some(control) = find(offered, sys::V4L2_CID_EXPOSURE_ABSOLUTE) else {
            return Err(match find(offered, sys::V4L2_CID_EXPOSURE) {
                Some(own) => ControlError::ExposureUnit {
                    range: own.range(),
                    exposure_us: wanted_us,
                },
                None => ControlError::NoExposure,
            });
        };
        let value = nearest(control, wanted_us);
        let nearest_us = u32::try_from(value).unwrap_or(0).saturating_mul(EXPOSURE_UNIT_US);
        if nearest_us.abs_diff(wanted_us) > wanted_us / EXPOSURE_SHARE {
            let us = |units: i32| i64::from(units) * i64::from(EXPOSURE_UNIT_US);
            return Err(ControlError::ExposureRange {
                wanted_us,
                nearest_us,
                range_us: format!(
                    "{} to {} in steps of {}",
                    us(control.min),
                    us(control.max),
                    us(control.step)
                ),
            });
        }
        if nearest_us != wanted_us {
            self.notes.push(format!(
                "its exposure is {nearest_us} µs, the nearest to the {wanted_us} µs asked for: write \
                 `exposure_us = {nearest_us}`, so that blur and mid-exposure are reckoned rightly"
            ));
        }
        self.set(control, value, true)
    }

    fn gain(&mut self, wanted: Option<i32>, offered: &[ControlInfo]) -> Result<(), ControlError> {
        let Some(gain) = wanted else {
            return Ok(());
        };
        let control =
            find(offered, sys::V4L2_CID_GAIN).or_else(|| find(offered, sys::V4L2_CID_ANALOGUE_GAIN));
        self.set(control.ok_or(ControlError::NoGain)?, gain, true)
    }
}

/// The driver's value nearest to an exposure in µs.
fn nearest(control: &ControlInfo, wanted_us: u32) -> i32 {
    let units = f64::from(wanted_us) / f64::from(EXPOSURE_UNIT_US);
    let steps = ((units - f64::from(control.min)) / f64::from(control.step)).round();
    // Zero is not an exposure, although some drivers list it.
    let value = f64::from(control.min) + steps * f64::from(control.step);
    (value as i32).clamp(control.min.max(1), control.max.max(1))
}

/// Whether a setting of the configuration means this control: its name, or its number as `0x…`.
fn names(setting: &ControlSetting, control: &ControlInfo) -> bool {
    let number = setting
        .name
        .strip_prefix("0x")
        .map(|hex| u32::from_str_radix(hex, 16));
    number == Some(Ok(control.id)) || folded(&setting.name) == folded(&control.name)
}

/// Case and what stands between words do not matter: "White Balance, Automatic" is `white_balance_automatic`.
fn folded(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_alphanumeric() {
            folded.extend(c.to_lowercase());
        } else if !folded.is_empty() && !folded.ends_with('_') {
            folded.push('_');
        }
    }
    folded.trim_end_matches('_').to_owned()
}

/// The automatic controls among these that are on, in words.
pub fn switches_on(offered: &[ControlInfo]) -> String {
    let on = offered.iter().filter(|control| {
        let auto = folded(&control.name).contains("auto");
        auto && control.value.is_some_and(|value| value != 0)
    });
    let names: Vec<String> = on.map(|control| format!("`{}`", control.name)).collect();
    if names.is_empty() {
        "listed by `elek probe`".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests;

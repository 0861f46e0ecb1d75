//! The small panel: opened when it is there, again after it was lost, and now and then begun anew.

use crate::config::Panel as Settings;
use crate::device::panel::{Bus, Panel, PanelError};
use crate::display::pages::View;
use crate::display::{self, Canvas};
use crate::status::Status;
use crate::units::{Instant, Micros};

/// On SPI a panel cannot tell that it lost its power or was disturbed, and shows nothing or noise from then
/// on. Beginning anew takes a third of a second, during which it is dark: rare enough not to be a nuisance,
/// often enough that nobody takes the display for broken.
const ANEW: Micros = Micros::from_secs(600);

pub struct SmallPanel<B: Bus> {
    settings: Settings,
    bus: B,
    open: Option<Panel<B>>,
    begun: Instant,
    canvas: Canvas,
}

impl<B: Bus + Clone> SmallPanel<B> {
    pub fn new(settings: Settings, bus: B) -> SmallPanel<B> {
        let (width, height) = settings.size();
        SmallPanel {
            settings,
            bus,
            open: None,
            begun: Instant::ZERO,
            canvas: Canvas::new(width, height),
        }
    }

    pub fn show(&mut self, status: &Status, view: View, now: Instant) -> Result<(), String> {
        self.try_to_show(status, view, now)
            .map_err(|error| error.to_string())
    }

    fn try_to_show(&mut self, status: &Status, view: View, now: Instant) -> Result<(), PanelError> {
        let is_old = now.since(self.begun) >= ANEW;
        let panel = match self.open.take() {
            Some(panel) if is_old => {
                self.begun = now;
                panel.begin_anew()?
            }
            Some(panel) => panel,
            None => {
                self.begun = now;
                Panel::open(&self.settings, self.bus.clone())?
            }
        };
        let Ok(()) = match self.settings.is_mono() {
            true => display::draw_mono(status, view, &mut self.canvas),
            false => display::draw_small(status, view, &mut self.canvas),
        };
        self.open = Some(panel.show(&self.canvas.rgb)?);
        Ok(())
    }
}

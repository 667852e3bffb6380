//! Dates of the Gregorian calendar, and seconds since 1970.

/// A date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    pub second: u8,
    pub minute: u8,
    pub hour: u8,
    pub day: u8,
    pub month: u8,
    pub year: u64,
    /// 0 is Sunday.
    pub weekday: u8,
}

/// Days from the first of March of year 0 to the first of January 1970: years are reckoned from March, so that a leap
/// day is the last of its year.
const DAYS_TO_1970: u64 = 719_468;

impl Date {
    pub const fn from_unix(seconds: u64) -> Self {
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (era, day_of_era) = ((days + DAYS_TO_1970) / 146_097, (days + DAYS_TO_1970) % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            second: (rest % 60) as u8,
            minute: (rest / 60 % 60) as u8,
            hour: (rest / 3_600) as u8,
            day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u8,
            month: month as u8,
            year: year_of_era + era * 400 + (month <= 2) as u64,
            // The first of January 1970 was a Thursday.
            weekday: ((days + 4) % 7) as u8,
        }
    }

    /// Fields that no date has count on into the next larger one; what lies before 1970 is 1970.
    pub fn to_unix(self) -> u64 {
        let month = u64::from(self.month.clamp(1, 12));
        let year = self.year.saturating_sub(u64::from(month <= 2));
        let (era, year_of_era) = (year / 400, year % 400);
        let from_march = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * from_march + 2) / 5 + u64::from(self.day.max(1)) - 1;
        let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let time = u64::from(self.hour) * 3_600 + u64::from(self.minute) * 60 + u64::from(self.second);
        (days * 86_400 + time).saturating_sub(DAYS_TO_1970 * 86_400)
    }
}

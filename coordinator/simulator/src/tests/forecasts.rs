//! What fleet files would do: how close a rolling replacement comes to what its provider can do, what a
//! leak costs, and where a person is needed.

use calvin_model::FleetSpec;

use super::*;

fn question(text: &str, cloud: Cloud) -> Question {
    Question {
        fleets: vec![FleetSpec::parse("web.toml", text).unwrap()],
        cloud,
        limit: Duration::from_secs(6 * 3_600),
        seed: 1,
    }
}

/// Policies of seconds.
const SHORT: &str =
    "[replace]\nsurge = \"100%\"\nmin_healthy = \"5s\"\nsettle = \"5s\"\nbake = \"10s\"\n";

#[test]
fn a_rolling_replacement_takes_hardly_longer_than_its_provider_needs() {
    let (count, in_flight, takes) = (200, 10, Duration::from_secs(60));
    let text = format!(
        "name = \"web\"\nimage = \"web@2\"\ncount = {count}\n{SHORT}\
         healthy_deadline = \"30m\"\nprogress_deadline = \"30m\"\n"
    );
    let cloud = Cloud {
        make: (takes, takes),
        in_flight: Some(in_flight),
    };
    let forecast = forecast(&question(&text, cloud), Turnout::Good).unwrap();
    let took = forecast.fleets[0].takes;
    let bound = takes * count / 10;
    assert!(forecast.ended && forecast.violations.is_empty());
    assert!(
        took >= bound && took <= bound + bound / 20,
        "{took:?}, the provider alone needs {bound:?}"
    );
    assert_eq!(forecast.fleets[0].least_answering, 200);
}

#[test]
fn a_leak_costs_clients_until_a_person_goes_back() {
    let text = format!("name = \"web\"\nimage = \"web@2\"\ncount = 3\n{SHORT}");
    let question = question(&text, Cloud::default());
    let good = forecast(&question, Turnout::Good).unwrap();
    assert_eq!(good.fleets[0].not_answering, Duration::ZERO);
    let leaks = forecast(&question, Turnout::BadOnceDone).unwrap();
    assert!(
        leaks.ended && leaks.violations.is_empty(),
        "{:?}",
        leaks.violations
    );
    let fleet = &leaks.fleets[0];
    // Five minutes of three instances, and the way back.
    let noticed = fleet.noticed_after.unwrap();
    assert!(noticed >= Duration::from_secs(290) && noticed <= Duration::from_secs(310));
    assert!(fleet.not_answering > Duration::from_secs(600), "{fleet:?}");
    assert!(fleet.back_after.unwrap() > Duration::ZERO);
    assert!(fleet.takes < Duration::from_secs(900), "{:?}", fleet.takes);
}

#[test]
fn a_forecast_says_where_a_person_is_needed() {
    let text =
        format!("name = \"web\"\nimage = \"web@2\"\ncount = 2\n{SHORT}approve = [\"switch\"]\n");
    let forecast = forecast(&question(&text, Cloud::default()), Turnout::Good).unwrap();
    assert!(forecast.ended);
    let said: Vec<&str> = forecast
        .answers
        .iter()
        .map(|(_, text)| text.as_str())
        .collect();
    assert!(
        said.len() == 1 && said[0].contains("switch is approved by 1 of 1"),
        "{said:?}"
    );
}

#[test]
fn a_fleet_with_zones_is_forecast_as_any_other() {
    let text = "name = \"web\"\nimage = \"web@2\"\ncount = 2\nzones = [\"a\", \"b\"]\n";
    let forecast = forecast(&question(text, Cloud::default()), Turnout::Good).unwrap();
    assert!(forecast.ended && forecast.violations.is_empty());
}

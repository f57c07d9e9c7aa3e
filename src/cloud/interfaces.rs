//! The network interfaces that machines are made with, and how many of them speak EFA.
//!
//! Given: what a node class says and the facts of a type. Given back: whether the type has room for it,
//! how many EFA devices its machines offer to pods, and the interfaces of one machine. Security groups,
//! subnets and addresses are not known here.

use serde::Serialize;

use super::facts::InstanceFacts;
use crate::api::node_class::EC2NodeClassSpec;
use crate::api::node_class::machine::InterfaceType;

pub use crate::model::resources::EFA;

/// What an interface carries, in EC2's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// IP alone.
    Interface,
    /// IP and EFA.
    Efa,
    /// EFA alone.
    EfaOnly,
}

impl Traffic {
    /// EC2's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Efa => "efa",
            Self::EfaOnly => "efa-only",
        }
    }

    /// The kind of EC2's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Interface, Self::Efa, Self::EfaOnly]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// One network interface of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// The network card, from 0.
    pub card: u32,
    /// The position on the card, from 0.
    pub device: u32,
    /// What it carries.
    pub traffic: Traffic,
}

/// What a node class says of the interfaces of its machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interfaces {
    /// One, or one with EFA on each card when pods of the claim ask for EFA.
    ByClaim {
        /// Only one in any case: EC2 gives public addresses to no machine with several.
        one: bool,
    },
    /// Those that are listed, on every machine.
    Listed(Vec<Interface>),
}

impl Default for Interfaces {
    fn default() -> Self {
        Self::ByClaim { one: false }
    }
}

impl Interfaces {
    /// What a spec says, with a problem where EC2 would refuse every launch.
    pub fn read(spec: &EC2NodeClassSpec, problems: &mut Vec<String>) -> Self {
        let public = spec.associate_public_ip_address == Some(true);
        if spec.network_interfaces.is_empty() {
            return Self::ByClaim { one: public };
        }
        if public && spec.network_interfaces.len() > 1 {
            problems.push(
                "spec.associatePublicIPAddress: EC2 gives no public address to machines with several network \
                 interfaces; leave it out, or list one interface in spec.networkInterfaces"
                    .to_owned(),
            );
        }
        let mut listed = Vec::new();
        for (index, interface) in spec.network_interfaces.iter().enumerate() {
            let traffic = Traffic::parse(interface.interface_type.as_str());
            let place = u32::try_from(interface.network_card_index)
                .ok()
                .zip(u32::try_from(interface.device_index).ok());
            match (traffic, place) {
                (Some(traffic @ (Traffic::Interface | Traffic::EfaOnly)), Some((card, device))) => {
                    listed.push(Interface { card, device, traffic });
                }
                _ => problems.push(format!(
                    "spec.networkInterfaces[{index}]: networkCardIndex and deviceIndex count from 0, and \
                     interfaceType is `{}` or `{}`",
                    InterfaceType::Interface.as_str(),
                    InterfaceType::EfaOnly.as_str()
                )),
            }
        }
        listed.sort_by_key(|interface| (interface.card, interface.device));
        Self::Listed(listed)
    }

    /// True when machines of the type have room for them.
    pub fn fit(&self, facts: &InstanceFacts) -> bool {
        let Self::Listed(listed) = self else {
            return true;
        };
        self.devices(facts) <= facts.efa_interfaces && have_places(listed, facts)
    }

    /// How many EFA devices a machine of the type has, when its claim asks for some.
    pub fn devices(&self, facts: &InstanceFacts) -> u32 {
        match self {
            Self::ByClaim { one } if *one => facts.efa_interfaces.min(1),
            Self::ByClaim { .. } if has_cards(facts) => facts.efa_interfaces,
            Self::ByClaim { .. } => 0,
            Self::Listed(listed) => {
                let speaks = |interface: &&Interface| interface.traffic == Traffic::EfaOnly;
                u32::try_from(listed.iter().filter(speaks).count()).unwrap_or(u32::MAX)
            }
        }
    }

    /// Interfaces that every machine has beside its first one.
    pub fn beside_the_first(&self) -> u32 {
        let Self::Listed(listed) = self else {
            return 0;
        };
        u32::try_from(listed.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Interfaces of the first card that have no address, for themselves or for pods.
    pub fn without_addresses(&self) -> u32 {
        let Self::Listed(listed) = self else {
            return 0;
        };
        let on_first = |found: &&Interface| found.card == 0 && found.traffic == Traffic::EfaOnly;
        u32::try_from(listed.iter().filter(on_first).count()).unwrap_or(u32::MAX)
    }

    /// The interfaces of a machine whose type has so many EFA devices; empty is EC2's usual one. EFA goes
    /// onto a card each: at position 0 of the first, where the primary interface is, and at position 1 of the others.
    /// Source: "Elastic Fabric Adapter" in the EC2 user guide.
    pub fn of_machine(&self, devices: i64, asks_for_efa: bool) -> Vec<Interface> {
        match self {
            Self::Listed(listed) => listed.clone(),
            Self::ByClaim { .. } if asks_for_efa => (0..u32::try_from(devices).unwrap_or(0))
                .map(|card| Interface {
                    card,
                    device: u32::from(card > 0),
                    traffic: Traffic::Efa,
                })
                .collect(),
            Self::ByClaim { .. } => Vec::new(),
        }
    }
}

/// True when machines of the type have cards with these positions.
pub fn have_places(interfaces: &[Interface], facts: &InstanceFacts) -> bool {
    interfaces.iter().all(|interface| {
        let card = usize::try_from(interface.card).ok();
        let most = card.and_then(|card| facts.cards.get(card));
        most.is_some_and(|most| interface.device < *most)
    })
}

/// True when EFA has a card for each device, and on all but the first the position that it is given there.
fn has_cards(facts: &InstanceFacts) -> bool {
    let devices = usize::try_from(facts.efa_interfaces).unwrap_or(usize::MAX);
    let others = facts.cards.get(1..devices.max(1));
    others.is_some_and(|others| others.iter().all(|most| *most > 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::facts::built_in;

    fn read(fields: &str) -> (Interfaces, Vec<String>) {
        let spec = format!(
            "subnetSelectorTerms: [{{id: subnet-1}}]\nsecurityGroupSelectorTerms: [{{name: nodes}}]\n\
             amiSelectorTerms: [{{id: ami-1}}]\namiFamily: AL2023\ninstanceProfile: nodes\n{fields}"
        );
        let mut problems = Vec::new();
        let spec = serde_saphyr::from_str(&spec).unwrap();
        let found = Interfaces::read(&spec, &mut problems);
        (found, problems)
    }

    const LISTED: &str = "networkInterfaces:\n\
        - {networkCardIndex: 1, deviceIndex: 1, interfaceType: efa-only}\n\
        - {networkCardIndex: 0, deviceIndex: 0, interfaceType: interface}\n";

    #[test]
    fn machines_speak_efa_on_every_card_when_their_pods_ask_for_it() {
        let facts = &built_in().types["p4d.24xlarge"];
        let (usual, problems) = read("");
        assert_eq!((problems.len(), usual.devices(facts)), (0, 4));
        assert_eq!(usual.of_machine(4, false), []);
        let places: Vec<(u32, u32, &str)> = usual
            .of_machine(4, true)
            .iter()
            .map(|found| (found.card, found.device, found.traffic.as_str()))
            .collect();
        assert_eq!(
            places,
            [(0, 0, "efa"), (1, 1, "efa"), (2, 1, "efa"), (3, 1, "efa")]
        );
    }

    #[test]
    fn a_public_address_leaves_room_for_one_interface() {
        let facts = &built_in().types["p4d.24xlarge"];
        let (public, problems) = read("associatePublicIPAddress: true");
        assert_eq!((problems.len(), public.devices(facts)), (0, 1));
        let (_listed, problems) = read(&format!("{LISTED}associatePublicIPAddress: true"));
        assert!(
            problems[0].starts_with("spec.associatePublicIPAddress"),
            "{problems:?}"
        );
    }

    #[test]
    fn only_types_with_room_for_what_is_listed_are_bought() {
        let (listed, problems) = read(LISTED);
        assert!(problems.is_empty(), "{problems:?}");
        assert!(listed.fit(&built_in().types["p4d.24xlarge"]));
        assert!(
            !listed.fit(&built_in().types["c5.xlarge"]),
            "it has one card"
        );
        let cards: Vec<u32> = listed
            .of_machine(1, false)
            .iter()
            .map(|found| found.card)
            .collect();
        assert_eq!(cards, [0, 1], "in order, asked for or not");
    }

    #[test]
    fn types_without_room_for_a_device_on_each_card_offer_none() {
        let mut facts = InstanceFacts::clone(&built_in().types["p4d.24xlarge"]);
        let (usual, _problems) = read("");
        facts.cards = vec![15, 15, 1, 15];
        assert_eq!(usual.devices(&facts), 0);
        facts.cards = vec![15];
        assert_eq!(usual.devices(&facts), 0);
    }

    #[test]
    fn what_ec2_would_not_understand_is_named() {
        let text = LISTED.replace("networkCardIndex: 1", "networkCardIndex: -1");
        let (_listed, problems) = read(&text);
        assert!(
            problems[0].starts_with("spec.networkInterfaces[0]"),
            "{problems:?}"
        );
    }
}

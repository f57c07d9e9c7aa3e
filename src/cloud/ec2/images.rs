//! What the image terms of a node class find.
//!
//! Given: the terms, and the cluster's Kubernetes version. Given back: images by architecture in order
//! of preference, with what each term that found nothing was looking for. An image that is named by an
//! id, or by a parameter that somebody filled, may be anybody's; one that is found by name or tags is
//! this account's or Amazon's, unless the term names an owner.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{self as ec2, Filter};
use jiff::{SignedDuration, Timestamp};

use super::Api;
use super::call::{failed, filter, tag_filters};
use super::root_volume;
use crate::api::image_alias::ImageAlias;
use crate::api::node_class::selectors::AmiSelectorTerm;
use crate::cloud::buckets::Bucket;
use crate::cloud::facts::Architecture;
use crate::cloud::images::{self, FoundImage};
use crate::cloud::terms::{describe, nothing_matches};
use crate::cloud::{CloudError, Unresolved};
use crate::model::kubernetes_version::KubernetesVersion;
use crate::model::node_class::{Accelerator, Image};

const PATH: &str = "spec.amiSelectorTerms";
/// A pinned release never changes; it is read again at all in case it was withdrawn.
const PINNED_SERVES_FOR: SignedDuration = SignedDuration::from_hours(24);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct FoundImages {
    /// By architecture, in order of preference.
    pub(super) images: BTreeMap<String, Vec<Image>>,
    /// What each term that found nothing was looking for.
    pub(super) nothing: Vec<Nothing>,
}

/// A term that found nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nothing {
    reason: &'static str,
    /// The term and what is wrong with it; empty when its filters just match nothing.
    why: String,
    /// The term, for the list of all that match nothing.
    term: String,
}

/// A look-up in EC2 on behalf of a term.
struct Query {
    filters: Vec<Filter>,
    owners: Option<Vec<String>>,
    /// What the images are for, where the term says it, by image id.
    serves: BTreeMap<String, BTreeSet<Accelerator>>,
}

/// Looks images up.
pub(super) async fn images(
    api: &Api,
    terms: &[AmiSelectorTerm],
) -> Result<FoundImages, CloudError> {
    let kubernetes = *api.settings.kubernetes_version.borrow();
    let wanted = parameters(api, terms, kubernetes);
    let values = api.parameters.read(api, &wanted).await?;
    let mut result = FoundImages::default();
    let mut found: BTreeMap<String, FoundImage> = BTreeMap::new();
    for (index, term) in terms.iter().enumerate() {
        let nothing = match query(index, term, kubernetes, &values) {
            Ok(query) => {
                let images = described(api, &query).await?;
                let is_empty = images.is_empty();
                found.extend(
                    images
                        .into_iter()
                        .map(|image| (image.image.id.clone(), image)),
                );
                is_empty.then(|| Nothing {
                    reason: "AMINotFound",
                    why: String::new(),
                    term: named(index, term),
                })
            }
            Err(nothing) => Some(nothing),
        };
        result.nothing.extend(nothing);
    }
    result.images = images::by_architecture(found.into_values().collect());
    Ok(result)
}

/// The parameters that the terms need, and how long an answer of each serves.
fn parameters(
    api: &Api,
    terms: &[AmiSelectorTerm],
    kubernetes: Option<KubernetesVersion>,
) -> BTreeMap<String, SignedDuration> {
    let refresh =
        SignedDuration::try_from(api.settings.image_refresh).unwrap_or(SignedDuration::MAX);
    let mut wanted = BTreeMap::new();
    for term in terms {
        if let (Some(Ok(alias)), Some(version)) =
            (term.alias.as_deref().map(ImageAlias::parse), kubernetes)
        {
            let serves_for = if alias.version.is_some() {
                PINNED_SERVES_FOR
            } else {
                refresh
            };
            let names = images::parameters_of(&alias, version).into_iter();
            wanted.extend(names.map(|parameter| (parameter.name, serves_for)));
        }
        wanted.extend(term.ssm_parameter.clone().map(|name| (name, refresh)));
    }
    wanted
}

/// How a term is looked up, or why it finds nothing whatever EC2 has.
fn query(
    index: usize,
    term: &AmiSelectorTerm,
    kubernetes: Option<KubernetesVersion>,
    values: &BTreeMap<String, String>,
) -> Result<Query, Nothing> {
    let nothing = |reason: &'static str, why: String| Nothing {
        reason,
        why: format!("{PATH}{}: {why}", named(index, term)),
        term: named(index, term),
    };
    if let Some(text) = &term.alias {
        let serves =
            of_alias(text, kubernetes, values).map_err(|(reason, why)| nothing(reason, why))?;
        return Ok(Query {
            filters: vec![filter("image-id", serves.keys())],
            owners: None,
            serves,
        });
    }
    let mut filters = tag_filters(&term.tags);
    let mut is_named = false;
    if let Some(name) = &term.ssm_parameter {
        let id = values.get(name).ok_or_else(|| {
            let why = "there is no such SSM parameter; make it, correct the name, or allow \
                       ssm:GetParameters for it";
            nothing("AMINotFound", why.to_owned())
        })?;
        if !id.starts_with("ami-") {
            let why =
                "the SSM parameter holds no image id; put one in, as in ami-0123456789abcdef0";
            return Err(nothing("AMINotFound", why.to_owned()));
        }
        filters.push(filter("image-id", [id]));
        is_named = true;
    }
    if let Some(id) = &term.id {
        filters.push(filter("image-id", [id]));
        is_named = true;
    }
    if let Some(name) = &term.name {
        filters.push(filter("name", [name]));
    }
    let owners = match &term.owner {
        Some(owner) => Some(vec![owner.clone()]),
        None if is_named => None,
        // Anybody can publish an image under any name.
        None => Some(vec!["self".to_owned(), "amazon".to_owned()]),
    };
    Ok(Query {
        filters,
        owners,
        serves: BTreeMap::new(),
    })
}

/// The images of an alias, with what each is for.
fn of_alias(
    text: &str,
    kubernetes: Option<KubernetesVersion>,
    values: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, BTreeSet<Accelerator>>, (&'static str, String)> {
    let alias = ImageAlias::parse(text)
        .map_err(|error| ("UnsupportedAlias", format!("{error}; {}", error.fix())))?;
    let version = kubernetes.ok_or_else(|| {
        let why = "the API server has not said its Kubernetes version yet, and images are published \
                   by version; wait a moment, or select the image by id";
        ("AMINotFound", why.to_owned())
    })?;
    let mut serves: BTreeMap<String, BTreeSet<Accelerator>> = BTreeMap::new();
    for parameter in images::parameters_of(&alias, version) {
        if let Some(id) = values
            .get(&parameter.name)
            .filter(|id| id.starts_with("ami-"))
        {
            serves
                .entry(id.clone())
                .or_default()
                .extend(parameter.serves);
        }
    }
    if serves.is_empty() {
        let why = format!(
            "AWS publishes no such image for Kubernetes {version} in this region; take another \
             version, or latest"
        );
        return Err(("UnsupportedAlias", why));
    }
    Ok(serves)
}

async fn described(api: &Api, query: &Query) -> Result<Vec<FoundImage>, CloudError> {
    let mut pages = api
        .ec2
        .describe_images()
        .set_filters(Some(query.filters.clone()))
        .set_owners(query.owners.clone())
        .include_deprecated(true)
        .into_paginator()
        .page_size(1000)
        .send();
    let now = api.world.now();
    let mut found = Vec::new();
    loop {
        api.buckets.take(Bucket::Describe, 1).await;
        let Some(page) = pages.next().await else {
            return Ok(found);
        };
        let page = page.map_err(|error| failed("DescribeImages", &error))?;
        let images = page
            .images()
            .iter()
            .filter_map(|image| image_of(image, now));
        found.extend(images.map(|image| FoundImage {
            serves: query.serves.get(&image.image.id).cloned(),
            ..image
        }));
    }
}

fn image_of(image: &ec2::Image, now: Timestamp) -> Option<FoundImage> {
    if image
        .state()
        .is_some_and(|state| *state != ec2::ImageState::Available)
    {
        return None;
    }
    let deprecated = image
        .deprecation_time()
        .and_then(|text| text.parse::<Timestamp>().ok())
        .is_some_and(|time| time <= now);
    Some(FoundImage {
        image: Image {
            deprecated,
            plain_root: root_volume::plain(image),
            ..Image::new(image.image_id()?, image.name().unwrap_or(""))
        },
        architecture: Architecture::parse(image.architecture()?.as_str())?,
        created: image.creation_date().unwrap_or("").to_owned(),
        serves: None,
    })
}

fn named(index: usize, term: &AmiSelectorTerm) -> String {
    let more = [
        ("alias", &term.alias),
        ("SSM parameter", &term.ssm_parameter),
        ("id", &term.id),
        ("name", &term.name),
        ("owner", &term.owner),
    ];
    let more = more
        .into_iter()
        .filter_map(|(what, value)| Some(format!("{what} {}", value.as_ref()?)));
    describe(index, more, &term.tags)
}

/// What is worth knowing although there are images: terms that found nothing, and deprecated images
/// that machines are started from for want of others.
pub(super) fn remark(found: &FoundImages) -> Option<Unresolved> {
    let mut texts: Vec<String> = Vec::new();
    let mut old: Vec<&Image> = Vec::new();
    for images in found.images.values() {
        for accelerator in Accelerator::all() {
            let first = images
                .iter()
                .find(|image| image.serves.contains(&accelerator));
            old.extend(first.filter(|image| image.deprecated && !old.contains(image)));
        }
    }
    for image in &old {
        texts.push(format!(
            "image {} ({}) is deprecated and no other fits: select a newer one",
            image.id, image.name
        ));
    }
    texts.extend(nothing_found(&found.nothing));
    let reason = if old.is_empty() {
        "TermMatchesNothing"
    } else {
        "ImageDeprecated"
    };
    (!texts.is_empty()).then(|| Unresolved {
        reason,
        message: texts.join("; "),
    })
}

/// What each term that found nothing was looking for, those with a reason of their own first.
fn nothing_found(nothing: &[Nothing]) -> Vec<String> {
    let (plain, explained): (Vec<&Nothing>, Vec<&Nothing>) =
        nothing.iter().partition(|nothing| nothing.why.is_empty());
    let mut texts: Vec<String> = explained
        .iter()
        .map(|nothing| nothing.why.clone())
        .collect();
    if !plain.is_empty() {
        let terms = plain.iter().map(|nothing| nothing.term.clone());
        texts.push(nothing_matches("image", PATH, terms));
    }
    texts
}

/// Why there are no images to use, if so.
pub(super) fn check(found: &FoundImages) -> Result<(), Unresolved> {
    if !found.images.is_empty() {
        return Ok(());
    }
    let mut explained = found
        .nothing
        .iter()
        .filter(|nothing| !nothing.why.is_empty());
    Err(Unresolved {
        reason: explained
            .next()
            .map_or("AMINotFound", |nothing| nothing.reason),
        message: nothing_found(&found.nothing).join("; "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(images: &[(&str, bool)], nothing: &[(&str, &str)]) -> FoundImages {
        let mut by_architecture = BTreeMap::new();
        for (id, deprecated) in images {
            let of_architecture: &mut Vec<Image> =
                by_architecture.entry("amd64".to_owned()).or_default();
            of_architecture.push(Image {
                deprecated: *deprecated,
                ..Image::new(*id, "one")
            });
        }
        let nothing = nothing.iter().map(|(why, term)| Nothing {
            reason: "AMINotFound",
            why: (*why).to_owned(),
            term: (*term).to_owned(),
        });
        FoundImages {
            images: by_architecture,
            nothing: nothing.collect(),
        }
    }

    #[test]
    fn a_deprecated_image_is_told_of_where_nothing_newer_fits() {
        let told = |images: &[(&str, bool)]| remark(&found(images, &[])).map(|it| it.message);
        assert_eq!(told(&[("ami-new", false), ("ami-old", true)]), None);
        assert_eq!(
            told(&[("ami-old", true)]).as_deref(),
            Some("image ami-old (one) is deprecated and no other fits: select a newer one")
        );
    }

    #[test]
    fn terms_that_find_nothing_are_told_of_with_the_others_or_without() {
        let nothing = [("", "[0] (id ami-1)"), ("[1]: no such parameter", "[1]")];
        let text = "[1]: no such parameter; no image matches spec.amiSelectorTerms[0] (id ami-1): \
                    correct the terms, or tag the images so that they match";
        let beside = found(&[("ami-new", false)], &nothing);
        assert_eq!(check(&beside), Ok(()));
        let remark = remark(&beside).unwrap();
        assert_eq!(
            (remark.reason, remark.message.as_str()),
            ("TermMatchesNothing", text)
        );
        let alone = check(&found(&[], &nothing)).unwrap_err();
        assert_eq!(
            (alone.reason, alone.message.as_str()),
            ("AMINotFound", text)
        );
    }
}

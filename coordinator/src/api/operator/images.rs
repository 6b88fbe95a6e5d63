//! Images: add and list.

use std::path::PathBuf;

use calvin_proto::wire;

use super::{
    OperatorParts, PROCESS,
    answer::shown,
    error::{OperatorError, near},
    picture::instances_of,
    zones::order,
};
use crate::{images::ImageRecord, runtime::wall_ms_now};

impl OperatorParts {
    pub(super) async fn add_image(
        &self,
        request: wire::AddImageRequest,
        who: &str,
    ) -> Result<wire::Image, OperatorError> {
        if !request.provider.is_empty() && request.provider != PROCESS {
            return Err(OperatorError::NotFound {
                kind: "provider",
                name: shown(&request.provider),
                near: near(&request.provider, [PROCESS]),
            });
        }
        let directory = PathBuf::from(&request.location);
        if !directory.is_absolute() {
            return Err(OperatorError::invalid(format!(
                "location {:?} is not absolute: it is a directory on the coordinator's machine",
                shown(&request.location)
            )));
        }
        let (images, who) = (self.images.clone(), who.to_owned());
        let added = tokio::task::spawn_blocking(move || {
            images.add(&directory, PROCESS, &who, wall_ms_now())
        });
        let added = added.await??;
        Ok(self.image(added.record()))
    }

    pub(super) fn list_images(&self) -> wire::ListImagesReply {
        let images = self.images.list();
        wire::ListImagesReply {
            images: images.iter().map(|record| self.image(record)).collect(),
        }
    }

    fn image(&self, record: &ImageRecord) -> wire::Image {
        let view = self.desk.view();
        wire::Image {
            image: record.image.to_string(),
            digest: record.image.digest.to_string(),
            location: record.directory.display().to_string(),
            provider: record.provider.clone(),
            added_wall_ms: record.added_ms,
            added_by: record.added_by.clone(),
            instances: instances_of(&view, &record.image),
            veto: view.environment.vetoes.get(&record.image.tag).map(order),
        }
    }
}

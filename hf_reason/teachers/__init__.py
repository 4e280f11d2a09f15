"""Teachers for distillation: a live model, a top-k cache on disk, a served model."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "CacheBuilder": ".cache_builder",
        "CacheSettings": ".cache_settings",
        "DomainTeachers": ".by_domain",
        "LiveTeacher": ".live",
        "ServedTargets": ".served",
        "ServedTeacher": ".served",
        "Teacher": ".base",
        "TeacherError": ".errors",
        "TeacherSource": ".source",
        "TeacherTargets": ".base",
        "TopKCache": ".cache",
        "load_teacher_model": ".loading",
        "place_teacher_model": ".loading",
        "prepare_teacher_model": ".loading",
    },
)

"""A CPU double; see neuron_cpu_double. Nothing is compiled, so nothing is cached."""


class CacheUrl:
    @staticmethod
    def get_cache_url(cache_dir=None):
        return CacheUrl()

    def is_s3(self):
        return False


class CompileCache:
    pass


class CompileCacheFs(CompileCache):
    pass


class CompileCacheS3(CompileCache):
    pass


def create_compile_cache(cache_url=None):
    return CompileCacheFs()

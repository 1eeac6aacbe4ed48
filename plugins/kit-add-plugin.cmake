# SPDX-License-Identifier: Apache-2.0
# kit_add_plugin(<family> <name> SOURCES <source>... [LINK <target>...])
#
# Builds kit-<family>-<name>.so as the loader wants it: one exported symbol (a version script), no undefined symbol,
# libstdc++ linked in. The same function serves kit's own plugins and, after find_package(kit), a stranger's.
function(kit_add_plugin family name)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "SOURCES;LINK")
  set(target kit-${family}-${name})
  set(map ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/plugin.map)
  add_library(${target} MODULE ${arg_SOURCES})
  set_target_properties(${target} PROPERTIES PREFIX "" CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    LINK_DEPENDS ${map})
  if(KIT_OUTPUT_DIR)
    set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${KIT_OUTPUT_DIR})
  endif()
  target_link_libraries(${target} PRIVATE kit::plugin_export kit::${family} ${arg_LINK})
  target_link_options(${target} PRIVATE -Wl,--version-script=${map})
  if(NOT DEFINED KIT_STATIC_LIBSTDCXX OR KIT_STATIC_LIBSTDCXX)
    target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc)
  endif()
endfunction()
